"""SIGTERM, SIGUSR1 and Ctrl-C: finish the step, save, leave.

Exit status: SIGTERM 143 and Ctrl-C 130 (128 + signal, the shell's convention). SIGUSR1 is what SLURM sends before a
time limit (`#SBATCH --signal=USR1@120`): inside a SLURM job the job is requeued and the status is 0; elsewhere 138.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from types import FrameType
from typing import Any, Self

from repose.engine.logging import say

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Stopped(Exception):
    """Training was asked to stop and its state is saved."""


class Signals:
    """Context that turns the signals into a flag while training runs.

    Attributes:
        received: the signal that asked for the stop, or None.
        training: True while somebody looks at the flag; else a signal ends the process at once.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.training = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.getsignal(s) for s in SIGNALS}
            self.install()
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Set the handlers (again: Lightning puts its own in their place when a fit starts)."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.received is not None
        self.received = signal.Signals(number)
        if not self.training or (again and number == signal.SIGINT):
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(128 + number)
        if not again:
            say(
                f"{self.received.name}: saving after this step"
                + (" (again to leave at once)" if number == signal.SIGINT else "")
            )

    def exit_code(self) -> int:
        """Exit status after a saved stop; requeues the SLURM job first where SIGUSR1 asked for that."""
        if self.received == signal.SIGUSR1 and requeue():
            return 0
        return 128 + (self.received or signal.SIGTERM)


def requeue() -> bool:
    """Put this SLURM job back into the queue; False outside SLURM or where it refuses."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return False
    if os.environ.get("SLURM_PROCID", "0") != "0":
        return True  # the first task of the job asks for all
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        say(f"scontrol requeue {job} failed: {error}")
        return False
    say(f"SLURM job {job} is requeued" if done.returncode == 0 else f"scontrol requeue {job}: {done.stderr.decode()}")
    return done.returncode == 0
