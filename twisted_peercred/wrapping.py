"""
What our factories have of the factory that they wrap.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import ILoggingContext


class WrappingFactory:
    """
    A factory around another one.

    @ivar wrappedFactory: the other one.
    """

    wrappedFactory: Any

    @property
    def noisy(self) -> bool:
        """
        Whether the wrapped factory logs its start and stop.
        """
        return getattr(self.wrappedFactory, "noisy", True)

    def logPrefix(self) -> str:
        """
        The wrapped factory's prefix, marked.
        """
        if ILoggingContext.providedBy(self.wrappedFactory):
            prefix = self.wrappedFactory.logPrefix()
        else:
            prefix = type(self.wrappedFactory).__name__
        return f"{prefix} (peer credentials)"
