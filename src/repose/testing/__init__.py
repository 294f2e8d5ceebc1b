"""The contract of every method, for the tests of one's own: what `tests/contract` runs over this package's papers."""

from repose.testing.contract import CHECKS, Facts

__all__ = ["CHECKS", "Facts"]
