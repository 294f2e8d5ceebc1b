"""A progress bar with the time left, on stderr: live on a terminal, a line every half minute in a log file."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from repose.engine.callbacks import clock
from repose.engine.logging import say

_BAR = 24
_LIVE_S, _LOG_S = 0.2, 30.0


class Progress:
    """Counts pictures or frames.

    Attributes:
        done: so far.
    """

    def __init__(self, total: int | None, unit: str, show: bool = True) -> None:
        """Args: total: None where nobody knows; unit: `pictures`, say; show: False keeps quiet."""
        self.total = total
        self.unit = unit
        self.done = 0
        self._show = show
        self._live = sys.stderr.isatty()
        self._begin = self._shown = time.monotonic()

    def step(self, n: int = 1) -> None:
        """So many more are done."""
        self.done += n
        now = time.monotonic()
        if self._show and now - self._shown >= (_LIVE_S if self._live else _LOG_S):
            self._shown = now
            self._print(self.words(now))

    def words(self, now: float) -> str:
        """The line: bar, count, rate and time left."""
        rate = self.done / max(now - self._begin, 1e-9)
        count = f"{self.done} {self.unit}, {rate:.1f}/s"
        if not self.total:
            return count
        share = min(self.done / self.total, 1.0)
        bar = "#" * round(_BAR * share)
        left = (self.total - self.done) / rate if rate > 0 else 0.0
        return f"[{bar:.<{_BAR}}] {self.done}/{self.total} {self.unit}, {rate:.1f}/s, ETA {clock(max(left, 0.0))}"

    def say(self, line: str) -> None:
        """A line of text above the bar."""
        self._clear()
        say(line)

    def _print(self, text: str) -> None:
        if self._live:
            print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)
        else:
            say(text)

    def _clear(self) -> None:
        if self._live and self._show:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()
