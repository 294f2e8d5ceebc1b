"""One process per run folder: an flock, which a killed process gives back by itself.

Some clusters' file systems lock per machine only; so the owner also writes its name and touches the file now and then.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from repose.errors import UserError

HEARTBEAT_S = 30.0
"""The owner touches its lock file this often."""
LOST_S = 300.0
"""A lock of another machine whose heartbeat is older than this is taken over."""
_PATIENCE_S = 8
"""A killed process's data workers hold its lock until they notice (5 s)."""


@dataclass(frozen=True)
class Owner:
    """Who runs a row."""

    pid: int
    host: str

    def __str__(self) -> str:
        return f"process {self.pid}" + (f" on {self.host}" if self.host != socket.gethostname() else "")

    @property
    def lives(self) -> bool:
        """Whether that process is there, as far as this machine can tell: its data workers outlive it for seconds."""
        if self.host != socket.gethostname() or self.pid <= 0:
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # somebody else's
            return True
        return True


@dataclass(frozen=True)
class Lock:
    """A held lock. A child that inherits `fd` keeps it: a training that outlives its parent is not started twice."""

    fd: int

    def beat(self) -> None:
        """Say that the owner lives."""
        os.utime(self.fd)


def path_of(folder: Path) -> Path:
    """Lock file of a run folder: beside it, because the folder may not exist yet."""
    return folder.parent / ".locks" / f"{folder.name}.lock"


def owner(folder: Path) -> Owner | None:
    """Who runs that folder now, or None."""
    try:
        fd = os.open(path_of(folder), os.O_RDWR)
    except OSError:
        return None
    try:
        return None if _take(fd) else _owner(fd) or Owner(0, "?")
    finally:
        os.close(fd)


@contextmanager
def alone_in(folder: Path) -> Generator[None]:
    """Hold a run folder while a training writes it, unless the process that started this one holds it for us.

    Where the lock cannot be written (a folder beside which nothing may be made) there is none.

    Raises:
        UserError: another process trains there.
    """
    with ExitStack() as stack:
        lock = other = None
        for _ in range(_PATIENCE_S):
            try:
                lock = stack.enter_context(claim(folder))
            except OSError:
                break
            other = None if lock else owner(folder)
            if lock or (other and other.lives):
                break
            time.sleep(1)
        if lock is None and other and other.pid not in (os.getpid(), os.getppid()):
            raise UserError(
                f"{folder}: {other} trains there now (see `repose runs`); wait for it, or use another log.dir"
            )
        yield


@contextmanager
def claim(folder: Path) -> Generator[Lock | None]:
    """Hold a run folder, or get None where another process holds it."""
    path = path_of(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o664)
    try:
        for _ in range(10):  # somebody may just be looking (`owner` takes the lock for a moment)
            if _take(fd):
                break
            time.sleep(0.02)
        else:
            yield None
            return
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        os.fsync(fd)
        try:
            yield Lock(fd)
        finally:
            os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def _take(fd: int) -> bool:
    """Lock without waiting."""
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        other = _owner(fd)
        if other is None or other.host == socket.gethostname() or time.time() - os.fstat(fd).st_mtime > LOST_S:
            return True
        fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _owner(fd: int) -> Owner | None:
    try:
        said = json.loads(os.pread(fd, 4096, 0) or b"{}")
        return Owner(int(said["pid"]), str(said["host"]))
    except (ValueError, KeyError, TypeError):
        return None
