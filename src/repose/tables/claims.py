"""A paper's claim about two rows, judged: a lucky order is not called a reproduction."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

FLOOR = 0.05
"""AP (0-1) below which rows cannot be ranked: what is left is noise."""

_T975 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)
"""Student's t, two-sided 95 %, for 1 to 10 degrees of freedom."""
_Z975 = 1.959964
"""The same of a normal distribution."""

Word = Literal["confirmed", "refuted", "undecided"]


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    Attributes:
        word: confirmed, refuted or undecided.
        reason: the difference with its interval, or what is missing.
        difference: better minus worse, in the metric's own unit (0-1 for AP); None where it was not computed.
    """

    word: Word
    reason: str
    difference: Interval | None = None


def over_seeds(each: Sequence[Interval]) -> Interval:
    """Mean over seeds, with an interval for both kinds of chance: which images were drawn, and which seed.

    The bootstrap's half widths (same images for all seeds, hence averaged) and Student's t half width over the seeds
    are added as squares. One seed has the bootstrap's interval alone.

    Args:
        each: one interval per seed.
    """
    if len(each) == 1:
        return each[0]
    n = len(each)
    value = statistics.fmean(i.value for i in each)
    spread = t975(n - 1) * statistics.stdev(i.value for i in each) / math.sqrt(n)
    below = statistics.fmean(i.value - i.low for i in each)
    above = statistics.fmean(i.high - i.value for i in each)
    return Interval(value, value - math.hypot(below, spread), value + math.hypot(above, spread))


def t975(freedom: int) -> float:
    """Quantile of Student's t, two-sided 95 %, to 2e-4.

    Above 10 degrees of freedom by the Cornish-Fisher expansion about the normal's quantile (Abramowitz and Stegun,
    26.7.5).

    Args:
        freedom: degrees of freedom, at least 1.
    """
    if freedom <= len(_T975):
        return _T975[freedom - 1]
    z = _Z975
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def judge_measured(difference: Interval, values: tuple[float, float], seeds: int) -> Verdict:
    """Judge "better beats worse" from the difference of two measured metrics.

    Args:
        difference: better minus worse (0-1), from a paired bootstrap over images, and over seeds if there are several.
        values: the two metrics (0-1).
        seeds: runs behind each.
    """
    said = f"{100 * difference.value:+.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
    said += f" over {seeds} seeds" if seeds > 1 else ", one seed"
    if max(values) < FLOOR:
        return Verdict("undecided", f"both below AP {100 * FLOOR:.0f}: floor", difference)
    if math.isnan(difference.low):
        return Verdict("undecided", "no interval: nobody to find in the images")
    if difference.low > 0:
        return Verdict("confirmed", said, difference)
    if difference.high < 0:
        return Verdict("refuted", said, difference)
    return Verdict("undecided", said, difference)


def judge_counted(better: float | None, worse: float | None, unit: str) -> Verdict:
    """Judge "better costs less"; a count has no chance in it."""
    if better is None or worse is None:
        return Verdict("undecided", "one of the two is not counted here")
    said = f"{better:.3g} against {worse:.3g} {unit}, counted"
    if better == worse:
        return Verdict("undecided", said)
    return Verdict("confirmed" if better < worse else "refuted", said)
