"""
Asking a policy, of whatever kind, and what becomes of its answer.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from .errors import PeerRefused
from .interfaces import IPeerCredentials, IPeerIdentity, IPeerPolicy
from .policy import Decision

_log = Logger()


def ask(policy: IPeerPolicy, identity: IPeerIdentity) -> object:
    """
    Ask any policy.

    @return: its decision, or the L{Failure} to make one; a L{Deferred} of
        either, in a list of one, where that is not to be had at once.  To
        cancel it cancels the policy's, and raises nothing.
    """
    try:
        answer: object = policy.decide(identity)
        if type(answer) is Decision or not hasattr(answer, "__await__"):
            return answer
        pending: Deferred[Any] = (
            answer
            if isinstance(answer, Deferred)
            else Deferred.fromCoroutine(
                cast("Coroutine[Deferred[Any], Any, Any]", answer)
            )
        )
    except Exception:
        return Failure()
    return _await(pending)


def _await(pending: Deferred[Any]) -> object:
    answers: list[object] = []
    # The policy's own is its own: it may have given it to somebody else too.
    asked: Deferred[list[object]] = Deferred(lambda _: cancel())

    def keep(answer: object) -> object:
        answers.append(answer)
        if not asked.called:
            asked.callback(answers)
        # A failure goes to the record, and not to the log as unhandled.
        return None if isinstance(answer, Failure) else answer

    def cancel() -> None:
        try:
            pending.cancel()
        except Exception:
            _log.failure("A policy's Deferred could not be cancelled")
        if not asked.called:
            asked.callback(answers)

    pending.addBoth(keep)
    return answers[0] if answers else asked


def refusal(answer: Any, credentials: IPeerCredentials) -> PeerRefused | None:
    """
    What becomes of a policy's answer.  Only a decision that admits does; a
    failure refuses, and so does anything that is no decision.

    @return: L{None} for whom it admits.
    """
    problem: BaseException | None
    if isinstance(answer, Failure):
        problem = answer.value
    else:
        try:
            if answer.admitted is True:
                return None
            return PeerRefused(
                credentials,
                answer.rule,
                line=getattr(answer, "line", None),
                databaseGroups=getattr(answer, "databaseGroups", None),
            )
        except Exception as noDecision:
            problem = noDecision
    return policyFailed(credentials, problem)


def policyFailed(
    credentials: IPeerCredentials, problem: BaseException | None
) -> PeerRefused:
    """
    The refusal of somebody about whom a policy raised something.
    """
    refused = PeerRefused(credentials, "policy", "policy-failed")
    refused.__cause__ = problem
    return refused
