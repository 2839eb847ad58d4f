"""
A file with a line of JSON for each admission and each refusal.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TextIO

from twisted.application.service import Service
from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    formatEvent,
    globalLogPublisher,
    jsonFileLogObserver,
)
from zope.interface import implementer

from . import record

_log = Logger()


@implementer(ILogObserver)
class AuditLog(Service):
    """
    Writes the L{record <twisted_peercred.record>} to a file of mode 600 while
    it runs: by Twisted's own JSON observer, one object a line, which
    C{twisted.logger.eventsFromJSONLogFile} reads.  The file is only added to.

    When another file, or none, is where it was (logrotate has moved it away),
    it goes on in a new one; C{reopen} does so at once.  Where that cannot be
    had it stays with the old one and says so, once.

    @ivar path: absolute.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # A daemon changes its working directory.
        self.path = os.path.join(os.getcwd(), os.fsdecode(path))
        self._file: TextIO | None = None
        self._said: set[str] = set()

    def open(self) -> None:
        """
        Open the file, or that which is there now.

        @raise OSError: it cannot be had; what is open stays so.
        """
        # O_NONBLOCK: a FIFO is refused, and not waited for.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
        descriptor = os.open(
            self.path, flags | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC, 0o600
        )
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "it is no regular file")
            # Else it would be read by its owner, or be another file as well.
            if found.st_uid != os.geteuid() or found.st_nlink != 1:
                raise OSError(
                    errno.EPERM, "it belongs to another user, or has another name"
                )
            # Somebody may have made it before us, logrotate for one.
            os.fchmod(descriptor, 0o600)
        except BaseException:
            os.close(descriptor)
            raise
        self._close()
        self._file = open(descriptor, "a", encoding="utf-8")  # noqa: SIM115 (kept)
        self._identity = found.st_dev, found.st_ino
        self._write = jsonFileLogObserver(self._file, recordSeparator="")

    def privilegedStartService(self) -> None:
        """
        Open the file while that is allowed.

        @raise OSError: it cannot be had.
        """
        super().privilegedStartService()
        self._openOnce()

    def startService(self) -> None:
        """
        Begin to write.

        @raise OSError: the file cannot be had.
        """
        self._openOnce()
        record.admissions.addObserver(self)
        globalLogPublisher.addObserver(self)
        super().startService()

    def stopService(self) -> None:
        """
        Write no more.
        """
        super().stopService()
        globalLogPublisher.removeObserver(self)
        record.admissions.removeObserver(self)
        self._close()

    def reopen(self) -> None:
        """
        Go on in the file that is there now.
        """
        try:
            self.open()
        except OSError as problem:
            self._say("a new file", problem)
        else:
            self._said.discard("a new file")

    def _openOnce(self) -> None:
        if self._file is None:
            self.open()

    def _close(self) -> None:
        file, self._file = self._file, None
        try:
            if file is not None:
                file.close()
        except OSError as problem:
            # What the disk had no room for was tried for the last time.
            self._say("the rest", problem)

    def __call__(self, event: LogEvent) -> None:
        """
        Write an event, if it is one of the record.

        @see: L{ILogObserver}
        """
        if event.get("log_namespace") != record.__name__:
            return
        if self._isMoved():
            self.reopen()
        try:
            self._write(plain(event))
        except OSError as problem:
            # The file keeps what could not be written, and tries again.
            self._say("an event", problem)
        else:
            self._said.discard("an event")

    def _isMoved(self) -> bool:
        try:
            found = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return True
        except OSError:
            # Out of sight, as after privileges were dropped.
            return False
        return (found.st_dev, found.st_ino) != self._identity

    def _say(self, what: str, problem: OSError) -> None:
        # Once, until it works again: this may be for every connection.
        if what not in self._said:
            self._said.add(what)
            _log.critical(
                "The audit log {path} cannot have {missing}: {problem}",
                path=self.path,
                missing=what,
                problem=problem,
            )


def plain(event: LogEvent) -> LogEvent:
    """
    The fields of a record's event as plain types: the address and the error as
    they are shown, and the whole as text that has no more fields to fill in.
    """
    kept = {name: event[name] for name in record.FIELDS if name in event}
    for name, show in (("address", repr), ("error", str)):
        if name in kept:
            kept[name] = show(kept[name])
    if "log_failure" in event:
        failure = event["log_failure"]
        kept["failure"] = f"{failure.type.__name__}: {failure.getErrorMessage()}"
    text = formatEvent(event).replace("{", "{{").replace("}", "}}")
    return {**kept, "log_format": text}
