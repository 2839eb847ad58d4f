"""
A file with a line of JSON for each admission and each refusal.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from twisted.application.service import Service
from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    eventAsJSON,
    formatEvent,
    globalLogPublisher,
)
from zope.interface import implementer

from . import record

_log = Logger()


@implementer(ILogObserver)
class AuditLog(Service):
    """
    Writes the L{record <twisted_peercred.record>} to a file of mode 600 while
    it runs: in Twisted's own JSON, one object a line, which
    C{twisted.logger.eventsFromJSONLogFile} reads.  The file is only added to,
    and by whole lines.

    An event for which the disk has no room is lost.  That is said once; when
    there is room again, and at the end, a line with C{what="lost"} has the
    C{count}.

    When another file, or none, is where it was (logrotate has moved it away),
    it goes on in a new one; C{reopen} does so at once.  Where that cannot be
    had it stays with the old one and says so, once.

    @ivar path: absolute.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # A daemon changes its working directory.
        self.path = os.fsdecode(path)
        if not os.path.isabs(self.path):
            self.path = os.path.join(os.getcwd(), self.path)
        self._descriptor: int | None = None
        self._said: set[str] = set()
        self._lost = 0
        # Whether the file may end within a line.
        self._torn = False

    def open(self) -> None:
        """
        Open the file, or that which is there now.

        @raise OSError: it cannot be had; what is open stays so.
        """
        # O_NONBLOCK: a FIFO is refused, and not waited for.  Read is the last
        # byte alone.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
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
        self._descriptor = descriptor
        self._torn = True
        self._identity = found.st_dev, found.st_ino

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
        globalLogPublisher.addObserver(self._refusal)  # type: ignore[arg-type] # any callable
        super().startService()

    def stopService(self) -> None:
        """
        Write no more.
        """
        super().stopService()
        globalLogPublisher.removeObserver(self._refusal)  # type: ignore[arg-type]
        record.admissions.removeObserver(self)
        if self._lost:
            try:
                self._tellLost()
            except OSError as problem:
                self._say(f"the count of {self._lost} lost events", problem)
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
        if self._descriptor is None:
            self.open()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _refusal(self, event: LogEvent) -> None:
        # Admissions come by themselves, and may be in Twisted's log as well.
        if event.get("what") != "admitted":
            self(event)

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
            if self._lost:
                self._tellLost()
            self._write(plain(event))
        except OSError as problem:
            self._lost += 1
            self._say("an event", problem)
        else:
            self._said.discard("an event")

    def _tellLost(self) -> None:
        self._write(
            {
                "log_time": time.time(),
                "log_level": LogLevel.critical,
                "log_namespace": record.__name__,
                "log_format": "Lost {count} events, for which there was no room",
                "what": "lost",
                "count": self._lost,
            }
        )
        self._lost = 0

    def _write(self, event: LogEvent) -> None:
        """
        Add a line.

        @raise OSError: not all of it.
        """
        assert self._descriptor is not None
        line = eventAsJSON(event).encode() + b"\n"
        if self._torn and self._endsWithinLine(self._descriptor):
            line = b"\n" + line
        written = os.write(self._descriptor, line)
        self._torn = written < len(line)
        # What lacks its end of line alone is there.
        if written < len(line) - 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _endsWithinLine(self, descriptor: int) -> bool:
        size = os.fstat(descriptor).st_size
        return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"

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
