"""One training per run folder, whoever started it."""

import fcntl
import json
import os
import socket
from contextlib import contextmanager

import pytest

from repose.engine import locks
from repose.errors import UserError


@contextmanager
def held_by(folder, pid):
    """Another process's lock."""
    path = locks.path_of(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        file.write(json.dumps({"pid": pid, "host": socket.gethostname()}))
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_a_training_holds_its_folder(tmp_path):
    folder = tmp_path / "run"
    with locks.alone_in(folder):
        assert locks.owner(folder) == locks.Owner(os.getpid(), socket.gethostname())
    assert locks.owner(folder) is None


def test_a_second_training_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(locks.os, "getppid", lambda: 0)  # tests in the background may be process 1's
    with (
        held_by(tmp_path / "run", 1),
        pytest.raises(UserError, match="process 1 trains there now"),
        locks.alone_in(tmp_path / "run"),
    ):
        pass


def test_the_process_that_started_this_one_may_hold_it(tmp_path):
    with held_by(tmp_path / "run", os.getppid()), locks.alone_in(tmp_path / "run"):
        pass


def test_a_killed_training_is_waited_for(tmp_path, monkeypatch):
    """Its data workers hold the lock for seconds; whoever still holds it then is a training."""
    gone = 2**22 + 1  # above Linux's largest process id
    slept = []
    with held_by(tmp_path / "run", gone):
        monkeypatch.setattr(locks.time, "sleep", slept.append)
        assert not locks.owner(tmp_path / "run").lives
        with pytest.raises(UserError, match="trains there now"), locks.alone_in(tmp_path / "run"):
            pass
    assert slept.count(1) == locks._PATIENCE_S
    with locks.alone_in(tmp_path / "run"):
        pass


def test_a_place_without_locks_still_trains(tmp_path):
    (tmp_path / "file").write_text("")
    with locks.alone_in(tmp_path / "file" / "run"):
        pass
