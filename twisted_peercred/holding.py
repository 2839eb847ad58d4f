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
from .kernels import Message

if TYPE_CHECKING:
    from .transport import CredentialedServer, ReadResult


class HeldMessage:
    """
    Keeps a message back, and the connection from being read, until the policy
    has decided, the time is up or the connection ends.  Whether the protocol
    wants to read is remembered meanwhile: one that has paused gets nothing.

    @param writer: who wrote it.
    @param message: what it is; all that came with it is closed if it is dropped.
    @param answer: of L{twisted_peercred.deciding.ask}.
    @param decided: what is to be done with the answer; it says why the
        connection has to end, or L{None}.
    """

    def __init__(
        self,
        transport: CredentialedServer,
        writer: PeerCredentials,
        message: Message,
        answer: Deferred[Any],
        decided: Callable[[object], ReadResult],
    ) -> None:
        self._transport = transport
        self._writer = writer
        self._message = message
        self._answer = answer
        self._decided = decided
        self._wanted = True
        self._answers: list[object] | None = None
        transport.stopReading()
        # On the instance, as Twisted puts doRead aside when it aborts.
        transport.startReading = self._want  # type: ignore[method-assign]
        transport.stopReading = self._wantNot  # type: ignore[method-assign]
        self._deadline = transport.clock.callLater(transport.timeout, self._expire)
        transport.held = self
        answer.addCallback(self._answered)

    def _want(self) -> None:
        self._wanted = True
        if self._answers is not None:
            # In a turn of its own, where nothing of the protocol's is under way.
            reactor: Any = self._transport.reactor
            reactor.callLater(0, self._proceed)

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
        self._message.drop()
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
        self._deadline.cancel()
        self._answers = answers
        self._proceed()

    def _proceed(self) -> None:
        """
        Act on the answer, when the protocol wants to read.
        """
        transport, answers = self._transport, self._answers
        if transport.held is not self or answers is None:
            return
        closing = transport.disconnecting or transport._aborted
        if not self._wanted and not closing:
            return
        self._release()
        if closing:
            # The protocol wants no more of it.
            self._message.drop()
            return
        transport.startReading()
        try:
            result = self._decided(answers[0])
        except BaseException:
            transport.abortConnection()
            raise
        if result is not None:
            transport.abortConnection()
