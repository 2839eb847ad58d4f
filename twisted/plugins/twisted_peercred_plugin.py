"""
What twistd finds of twisted_peercred: instances, and nothing else.
"""

from twisted.application.service import ServiceMaker

from twisted_peercred.checkers import PeerCredentialsCheckerFactory
from twisted_peercred.endpoints import (
    PeerCredentialsClientParser,
    PeerCredentialsServerParser,
)

peercredEcho = ServiceMaker(
    "peercred-echo",
    "twisted_peercred.echo",
    "An echo server that greets its peers with who they are.",
    "peercred-echo",
)

peercredServer = PeerCredentialsServerParser()
peercredClient = PeerCredentialsClientParser()

peercredChecker = PeerCredentialsCheckerFactory()

peercredManhole = ServiceMaker(
    "peercred-manhole",
    "twisted_peercred.manhole",
    "A Python prompt in a process, on a Unix socket, for its user and root only.",
    "peercred-manhole",
)
