"""
The targets, by name, and the inputs that are kept for each.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from . import endpoints, messages, policies, sync, web

TARGETS: dict[str, Callable[[bytes], None]] = {
    "answers": messages.answers,
    "bsd-messages": messages.bsdMessages,
    "endpoints": endpoints.written,
    "endpoint-keywords": endpoints.composed,
    "forwarded": web.forwarded,
    "greeting": web.greeting,
    "headers": web.headers,
    "linux-messages": messages.linuxMessages,
    "map": policies.mapping,
    "policy": policies.policy,
    "processes": messages.processes,
    "structures": messages.structures,
    "sync-word": sync.syncWord,
}
CORPUS = Path(__file__).parent / "corpus"


def corpus(name: str) -> list[Path]:
    """
    The inputs that are kept for a target.
    """
    return sorted((CORPUS / name).iterdir())
