"""
A message whose writer the policy has yet to decide about, on a connection that
is the user's protocol's already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from .credentials import PeerCredentials
from .errors import CredentialsTimeout
from .kernels import closeAll

if TYPE_CHECKING:
    from .transport import CredentialedServer, ReadResult


class HeldMessage:
    """
    Keeps a message back, and the connection from being read, until the policy
    has decided, the time is up or the connection ends.  Whether the protocol
    wants to read is remembered meanwhile.

    @param writer: who wrote it.
    @param descriptors: what came with it, to be closed if it is dropped.
    @param answer: of L{twisted_peercred.deciding.ask}.
    @param decided: what is to be done with the answer; it says why the
        connection has to end, or L{None}.
    """

    def __init__(
        self,
        transport: CredentialedServer,
        writer: PeerCredentials,
        descriptors: list[int],
        answer: Deferred[Any],
        decided: Callable[[object], ReadResult],
    ) -> None:
        self._transport = transport
        self._writer = writer
        self._descriptors = descriptors
        self._answer = answer
        self._decided = decided
        self._wanted = True
        transport.stopReading()
        # On the instance, as Twisted puts doRead aside when it aborts.
        transport.startReading = self._want  # type: ignore[method-assign]
        transport.stopReading = self._wantNot  # type: ignore[method-assign]
        self._deadline = transport.clock.callLater(transport.timeout, self._expire)
        transport.held = self
        answer.addCallback(self._answered)

    def _want(self) -> None:
        self._wanted = True

    def _wantNot(self) -> None:
        self._wanted = False

    def _release(self) -> None:
        transport = self._transport
        transport.held = None
        del transport.startReading, transport.stopReading
        if self._deadline.active():
            self._deadline.cancel()

    def drop(self) -> None:
        """
        Nobody waits for it any more.
        """
        self._release()
        closeAll(self._descriptors)
        self._answer.cancel()

    def _expire(self) -> None:
        transport = self._transport
        problem = CredentialsTimeout(
            f"no decision was made about {self._writer} within"
            f" {transport.timeout} seconds"
        )
        transport.refusals.refused(
            transport, transport.getPeer(), self._writer, problem
        )
        self.drop()
        transport.abortConnection()

    def _answered(self, answers: list[object]) -> None:
        transport = self._transport
        if transport.held is not self:
            # It was dropped meanwhile.
            return
        self._release()
        if transport.disconnecting or transport._aborted:
            # The protocol wants no more of it.
            closeAll(self._descriptors)
            return
        if self._wanted:
            transport.startReading()
        try:
            result = self._decided(answers[0])
        except BaseException:
            transport.abortConnection()
            raise
        if result is not None:
            transport.abortConnection()
