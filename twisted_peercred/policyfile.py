"""
A policy in a file that is read again when an administrator has changed it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from zope.interface import implementer

from . import names as _system
from .errors import PolicyError
from .interfaces import IPeerIdentity, IPeerPolicy, IPeerPolicySource
from .policy import Policy
from .rules import NameService

_log = Logger()


@implementer(IPeerPolicy, IPeerPolicySource)
class PolicyFile:
    """
    The policy of a file, for C{policy=} of a factory or of several.  A
    connection is decided to its end by the policy that was in force when it
    came.

    Making one reads the file and blocks; do it before the reactor runs, or by
    C{deferToThread(PolicyFile, path)}.

    @ivar path: absolute.
    @ivar policy: the policy in force.

    @param groupsFrom: as in L{Policy.fromString}.
    @param names: where names are looked up.
    @param inThread: calls a function where it may block.
    @raise PolicyError: as in L{Policy.fromFile}.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        groupsFrom: str = "kernel",
        names: NameService = _system,
        inThread: Callable[..., Deferred[Any]] = deferToThread,
    ) -> None:
        # A daemon changes its working directory.
        self.path = os.fsdecode(path)
        if not os.path.isabs(self.path):
            self.path = os.path.join(os.getcwd(), self.path)
        self._groupsFrom = groupsFrom
        self._names = names
        self._inThread = inThread
        self._reloading = DeferredLock()
        self.policy = self._load()

    def _load(self) -> Policy:
        return Policy.fromFile(
            self.path, groupsFrom=self._groupsFrom, names=self._names
        )

    def decide(self, identity: IPeerIdentity) -> Any:
        """
        @see: L{IPeerPolicy.decide}
        """
        return self.policy.decide(identity)

    def reload(self) -> Deferred[PolicyError | None]:
        """
        Read the file again, in a thread.  What is wrong with it is logged, and
        the old policy stays in force.

        @return: what is wrong; L{None} when the new policy is in force.
        """
        # One after the other: the last one asked for has read what was there
        # when it was asked for.
        return self._reloading.run(lambda: Deferred.fromCoroutine(self._reload()))

    async def _reload(self) -> PolicyError | None:
        try:
            policy = await self._inThread(self._load)
        except Exception as raised:
            problem = raised
            if not isinstance(problem, PolicyError):
                # The name service is not to be had, perhaps.
                problem = PolicyError(f"cannot be loaded: {raised}", source=self.path)
            _log.error(
                "The old policy stays in force: {problem}",
                what="policy-kept",
                problem=problem,
                path=self.path,
                line=problem.line,
                column=problem.column,
            )
            return problem
        self.policy = policy
        _log.info(
            "A new policy is in force: {path}, {count} rules",
            what="policy-changed",
            path=self.path,
            count=len(policy.rules),
        )
        return None
