"""
C{twisted.cred} for peers that the kernel knows: no password, and none to
steal.

The credentials are C{IPeerCredentials(transport)}.  No client can send such: a
program of ours made them of what its kernel said.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from inspect import isawaitable
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.strcred import ICheckerFactory, InvalidAuthArgumentString
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.plugin import IPlugin
from zope.interface import implementer

from .errors import PolicyError
from .interfaces import IPeerCredentials, IPeerIdentity, IPeerPolicy
from .names import accountName
from .policy import Policy
from .trusted import readTrusted


def userAvatar(peer: IPeerIdentity) -> Deferred[str]:
    """
    The user's name, or the number of one who has none.  Looked up in a thread:
    the name service may take its time.
    """
    return deferToThread(accountName, peer.uid)


class AvatarMap:
    """
    Who is to be whom, in the way of C{pg_ident.conf}: lines of rules and an
    avatar, of which the first that admits a peer counts::

        root, group/wheel   -> admin
        uid/2000-2999       -> guest
        any                 -> user-{user}

    C{{user}} stands for the user's name, or his number if he has none; C{#}
    begins a comment.  A peer that no line admits is refused.

    @param lines: the rules and the avatar of each.
    """

    def __init__(self, lines: Iterable[tuple[IPeerPolicy, str]]) -> None:
        self._lines = list(lines)

    @classmethod
    def fromString(cls, text: str, *, source: str = "map") -> AvatarMap:
        """
        A map from its text.  Asks the name service, and may block, as
        L{Policy.fromString} does.

        @param source: what to call the text in an error.
        @raise PolicyError: a mistake in the text.
        """
        lines = []
        # Not splitlines(), which sees more line ends than an editor.
        for number, line in enumerate(text.split("\n"), 1):
            line = line.partition("#")[0].rstrip()
            if not line.strip():
                continue
            found = re.fullmatch(r"(.*\S)\s+->\s+(\S+)", line)
            if found is None:
                raise PolicyError(
                    "a line is rules, '->' and one word: root -> admin",
                    number,
                    len(line) - len(line.lstrip()) + 1,
                    source,
                )
            try:
                lines.append((Policy.fromString(found[1]), found[2]))
            except PolicyError as problem:
                raise PolicyError(
                    problem.problem, number, problem.column, source
                ) from None
        return cls(lines)

    @classmethod
    def fromFile(cls, path: str | os.PathLike[str]) -> AvatarMap:
        """
        A map from a file that nobody but root and the user of this process can
        have written.  Blocks.

        @raise PolicyError: a mistake in the text, or a file that cannot be
            read or must not be believed.
        """
        return cls.fromString(readTrusted(path), source=os.fsdecode(path))

    async def __call__(self, peer: IPeerIdentity) -> str | None:
        """
        @return: the avatar of a peer; L{None} for one who has none.
        """
        for policy, avatar in self._lines:
            if await _admits(policy, peer):
                if "{user}" not in avatar:
                    return avatar
                return avatar.replace("{user}", await userAvatar(peer))
        return None


async def _admits(policy: IPeerPolicy, peer: IPeerIdentity) -> bool:
    decision = policy.decide(peer)
    if isawaitable(decision):
        decision = await decision
    return bool(decision.admitted)


@implementer(ICredentialsChecker)
class PeerCredentialsChecker:
    """
    Logs in the peers that a policy admits.

    @param policy: who may log in; L{None}: whoever has come this far.
    @param avatarID: from a peer to its avatar's ID, L{str} or L{bytes}, or
        L{None} to refuse it; or to a L{Deferred} or a coroutine of these.  An
        L{AvatarMap} is one.
    """

    credentialInterfaces = (IPeerCredentials,)

    def __init__(
        self,
        *,
        policy: IPeerPolicy | None = None,
        avatarID: Callable[[IPeerCredentials], Any] = userAvatar,
    ) -> None:
        self._policy = policy
        self._avatarID = avatarID

    def requestAvatarId(self, credentials: IPeerCredentials) -> Deferred[bytes]:  # type: ignore[override]
        """
        @return: the avatar's ID in bytes, as C{twisted.cred} has them; or
            L{UnauthorizedLogin}.

        @see: L{ICredentialsChecker.requestAvatarId}
        """
        return Deferred.fromCoroutine(self._check(credentials))

    async def _check(self, peer: IPeerCredentials) -> bytes:
        if self._policy is not None and not await _admits(self._policy, peer):
            raise UnauthorizedLogin(f"{peer} is not admitted")
        avatar = self._avatarID(peer)
        if isawaitable(avatar):
            avatar = await avatar
        if avatar is None:
            raise UnauthorizedLogin(f"{peer} has no avatar")
        return avatar if isinstance(avatar, bytes) else os.fsencode(avatar)


@implementer(ICheckerFactory, IPlugin)
class PeerCredentialsCheckerFactory:
    """
    C{--auth peercred:RULES} for programs that take C{--auth}.
    """

    authType = "peercred"
    argStringFormat = "Rules: who may log in, such as group/staff,root"
    credentialInterfaces = PeerCredentialsChecker.credentialInterfaces
    authHelp = """
Logs in the peers of a Unix-domain socket as the users that the kernel says they
are. No password is asked for. The rules say who may log in:

  --auth peercred:any                          every user
  --auth peercred:root,self                    root, and the server's own user
  --auth peercred:group/staff                  the members of a group
  --auth 'peercred:!user/eve,uid/1000-1999'    a range of users, without one

Rules are separated by commas, and the first that matches decides; a "!" in
front of one refuses, a "+" between two conditions means both. Whom no rule
matches is refused. Conditions are any, root, self, uid/N, uid/N-M, user/NAME,
gid/N, gid/N-M, group/NAME and label/GLOB.

The program has to listen on a Unix-domain socket, and to log in its peers by
their credentials, not by name and password.
"""

    def generateChecker(self, argstring: str) -> PeerCredentialsChecker:
        """
        @raise InvalidAuthArgumentString: these are no rules.

        @see: L{ICheckerFactory.generateChecker}
        """
        if not argstring:
            raise InvalidAuthArgumentString(
                "peercred: needs rules that say who may log in; any is everybody"
            )
        try:
            return PeerCredentialsChecker(policy=Policy.fromString(argstring))
        except PolicyError as problem:
            raise InvalidAuthArgumentString(str(problem)) from problem
