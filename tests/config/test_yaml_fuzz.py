"""Property test: what W&B's agent prints for a value is read back as that value."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from repose.config import parse_value

_SCALAR = st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6, allow_nan=False)
_WORD = st.text("abcdefgh_-/.", min_size=1, max_size=8).filter(lambda s: s[0].isalpha())


@given(_SCALAR)
def test_scalars(value: object) -> None:
    assert parse_value(str(value)) == value


@given(st.lists(_SCALAR | _WORD, max_size=4))
def test_lists(value: list[object]) -> None:
    assert parse_value(str(value)) == value


@given(st.dictionaries(_WORD, _SCALAR, max_size=3))
def test_mappings(value: dict[str, object]) -> None:
    assert parse_value(str(value)) == value
