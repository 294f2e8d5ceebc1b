"""Runs what is missing: a process per run, claimed by a lock, resumed after a kill; a failed one stops no other."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from repose.engine import locks, rundir
from repose.errors import UserError
from repose.tables.state import State, log_of

PROGRAM = (sys.executable, "-m", "repose")
"""What runs a task; tests put their own here."""
POLL_S = 2.0
"""Between two looks at a start that runs wait for."""


@dataclass(frozen=True)
class Task:
    """One run.

    Attributes:
        key: runs with the same key are one run.
        label: for the lines that are printed.
        words: after `repose`.
        folder: run folder; the lock is beside it.
        judge: state from the run folder alone.
        parent: key of the run whose checkpoint this one tests.
        start: run folder of the training that it goes on from and trains first, where that is still to be done.
        environment: over this process's own.
    """

    key: str
    label: str
    words: Sequence[str]
    folder: Path
    judge: Callable[[], State]
    parent: str | None = None
    start: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Jobs:
    """How runs are spread.

    Attributes:
        gpus: one run at a time on each; empty = runs share whatever is visible.
        jobs: runs at a time where no GPUs are named.
        on_done: called as each run ends, with its state.
        say: prints one line.
    """

    gpus: Sequence[str] = ()
    jobs: int = 1
    on_done: Callable[[Task, State], None] = lambda _task, _state: None
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)


def parse_gpus(text: str | None) -> list[str]:
    """`0-3` or `0,2` into device numbers; None gives no list.

    Raises:
        UserError: neither form.
    """
    if not text:
        return []
    found: list[str] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if not match:
            raise UserError(f"--gpus {text!r}: write 0-3 or 0,2")
        found += [str(i) for i in range(int(match[1]), int(match[2] or match[1]) + 1)]
    return found


def run_tasks(tasks: Sequence[Task], jobs: Jobs) -> dict[str, State]:
    """Run what is not measured yet; never raises for a run that fails.

    Of the runs that go on from one training the first does it, and the others leave their places to what need not wait.

    Args:
        tasks: each key once, parents before the runs that test their checkpoint.
        jobs: how many at a time, and where.

    Returns:
        state of every run by its key.
    """
    waiting = list(tasks)
    states: dict[str, State] = {}
    free = list(jobs.gpus) or [""] * jobs.jobs
    alone = len(free) == 1
    busy: dict[Future[State], tuple[Task, str]] = {}
    several = None if alone else _Several()
    with _signals(), several or contextlib.nullcontext(), ThreadPoolExecutor(len(free)) as pool:
        try:
            while waiting or busy:
                held_back = False
                for task in [t for t in waiting if t.parent is None or t.parent in states]:
                    if not free:
                        break
                    if task.start and _in_hand(task.start, busy.values()):
                        held_back = True
                        continue
                    waiting.remove(task)
                    gpu = free.pop(0)
                    parent = states[task.parent] if task.parent else None
                    busy[pool.submit(_run, task, parent, gpu, several, jobs)] = (task, gpu)
                done, _ = wait(busy, POLL_S if held_back else None, return_when=FIRST_COMPLETED)
                for future in done:
                    task, gpu = busy.pop(future)
                    free.append(gpu)
                    states[task.key] = future.result()
                    jobs.on_done(task, states[task.key])
        except BaseException:
            for child in list(_CHILDREN):  # an interrupted table stops its trainings; they save and go on next time
                with contextlib.suppress(OSError):
                    child.terminate()
            raise
    return states


def _in_hand(start: Path, busy: Iterable[tuple[Task, str]]) -> bool:
    """Whether a run under way trains this start."""
    return any(task.start == start for task, _ in busy) and not rundir.is_done(start)


_CHILDREN: set[subprocess.Popen[bytes]] = set()
"""Runs of this process, for the signal handlers."""


@contextmanager
def _signals() -> Generator[None]:
    """Pass SIGTERM and SIGUSR1 (SLURM's warning of a requeue) on to the runs, which save and exit; then stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        for child in list(_CHILDREN):
            with contextlib.suppress(OSError):
                child.send_signal(number)
        raise KeyboardInterrupt

    before = {n: signal.signal(n, stop) for n in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(task: Task, parent: State | None, gpu: str, several: _Several | None, jobs: Jobs) -> State:
    if parent and parent.status != "measured":
        return State("not run", f"the run it tests is {parent.status}")
    try:
        with locks.claim(task.folder) as lock:
            if lock is None:
                return State("running", f"by {locks.owner(task.folder) or 'another process'}")
            now = task.judge()
            if now.status == "measured":
                return now
            if now.status == "stale" and task.folder.exists():  # resuming it would mix two codes
                jobs.say(f"{task.label}: {now}; the old run is kept in {rundir.set_aside(task.folder)}")
            return _launch(task, lock, gpu, several, jobs)
    except OSError as error:
        return State("failed", f"{task.folder}: {error.strerror or error}")


def _launch(task: Task, lock: locks.Lock, gpu: str, several: _Several | None, jobs: Jobs) -> State:
    task.folder.mkdir(parents=True, exist_ok=True)
    (task.folder / "exit.json").unlink(missing_ok=True)
    file = log_of(task.folder)
    env = {**os.environ, **task.environment, **({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})}
    jobs.say(f"{task.label}: repose {task.words[0]}{f' on GPU {gpu}' if gpu else ''}; log {file}")
    with open(file, "ab") as log:
        log.write(f"\n$ repose {' '.join(task.words)}\n".encode())
        log.flush()
        show = several.of(task.label) if several else _show
        code = _spawn([*PROGRAM, *task.words], env, log, lock, show)
        if several:
            several.end(task.label)
    if code and code not in _STOPPED:
        what = f"signal {-code}" if code < 0 else f"exit code {code}"
        rundir.write_json(task.folder / "exit.json", {"why": f"{what}: {_last_line(file)}"})
    after = task.judge()
    if code == 0 and after.status in ("not run", "stopped"):
        return State("failed", f"ended without a result; log: {file}", after.result)
    return after


_STOPPED = {128 + signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGUSR1, -signal.SIGTERM, -signal.SIGINT}
"""Exit codes of a run that was asked to stop: it saved, and goes on with the next --run."""


def _show(chunk: bytes) -> None:
    """What a run that runs alone prints, as it is."""
    sys.stderr.write(chunk.decode(errors="replace"))
    sys.stderr.flush()


class _Several:
    """What several runs print: on a terminal the last line of each, else every line behind its run's label."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}
        self._lock = threading.Lock()
        self._live: Live | None = None
        if sys.stderr.isatty():
            console = Console(stderr=True)
            self._live = Live(console=console, get_renderable=self._lines, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def _lines(self) -> Text:
        with self._lock:
            return Text("\n").join(
                Text(f"{label}: {text}", no_wrap=True, overflow="ellipsis") for label, text in self._last.items()
            )

    def of(self, label: str) -> Callable[[bytes], None]:
        """What shows the output of one run."""

        def show(chunk: bytes) -> None:
            for part in _ENDS.split(chunk.decode(errors="replace")):
                if not part.strip():
                    continue
                if self._live:
                    with self._lock:
                        self._last[label] = part.strip()
                else:
                    print(f"{label}: {part.strip()}", file=sys.stderr, flush=True)

        return show

    def end(self, label: str) -> None:
        """A run ended: its line goes."""
        with self._lock:
            self._last.pop(label, None)


_ENDS = re.compile(r"[\r\n]+|\x1b\[2K")
"""Where a line of a run ends, or is drawn anew."""


def _spawn(
    command: list[str], env: dict[str, str], log: BinaryIO, lock: locks.Lock, show: Callable[[bytes], None]
) -> int:
    """Run a command; what it prints goes to the log and to `show`.

    It gets a terminal of its own where we have one, because a progress bar is only drawn on a terminal.
    """
    ours, theirs = pty.openpty() if sys.stderr.isatty() else os.pipe()
    with subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, pass_fds=(lock.fd,)
    ) as child:
        os.close(theirs)
        _CHILDREN.add(child)
        stop = threading.Event()
        beat = threading.Thread(target=_beat, args=(lock, stop), daemon=True)
        beat.start()
        try:
            while chunk := _read(ours):
                log.write(chunk)
                log.flush()
                show(chunk)
            return child.wait()
        except BaseException:
            child.terminate()
            child.wait()
            raise
        finally:
            stop.set()
            beat.join()
            os.close(ours)
            _CHILDREN.discard(child)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # Linux's answer when the other side of a terminal is closed
        return b""


def _beat(lock: locks.Lock, stop: threading.Event) -> None:
    while not stop.wait(locks.HEARTBEAT_S):
        lock.beat()


def _last_line(log: Path) -> str:
    text = log.read_bytes()[-4000:].decode(errors="replace").strip()
    return text.splitlines()[-1].strip()[:200] if text else ""
