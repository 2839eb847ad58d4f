"""
Know who is at the other end of a Unix-domain socket, on the word of the
kernel, before a line of a program's own code runs for that peer.
"""

from . import adapters as _adapters  # noqa: F401 (registers them)
from . import attachment as _attachment  # noqa: F401
from .client import CredentialedUNIXClientFactory
from .credentials import Capture, PeerCredentials
from .errors import (
    CredentialsRejected,
    CredentialsTimeout,
    CredentialsTruncated,
    CredentialsUnavailable,
    CredentialsUnsupported,
    PeerChanged,
    PeerCredentialsError,
    PeerProcessError,
    PeerProcessGone,
    PeerProcessUnavailable,
    PeerProcessUnsupported,
    PeerRefused,
    PolicyError,
)
from .interfaces import (
    IPeerCredentials,
    IPeerCredentialsReceiver,
    IPeerIdentity,
    IPeerPolicy,
)
from .policy import Policy
from .sending import SYNC_WORD, sendCredentials
from .server import CredentialedUNIXServerFactory

__version__ = "0.1.0.dev0"

__all__ = [
    "SYNC_WORD",
    "Capture",
    "CredentialedUNIXClientFactory",
    "CredentialedUNIXServerFactory",
    "CredentialsRejected",
    "CredentialsTimeout",
    "CredentialsTruncated",
    "CredentialsUnavailable",
    "CredentialsUnsupported",
    "IPeerCredentials",
    "IPeerCredentialsReceiver",
    "IPeerIdentity",
    "IPeerPolicy",
    "PeerChanged",
    "PeerCredentials",
    "PeerCredentialsError",
    "PeerProcessError",
    "PeerProcessGone",
    "PeerProcessUnavailable",
    "PeerProcessUnsupported",
    "PeerRefused",
    "Policy",
    "PolicyError",
    "sendCredentials",
]
