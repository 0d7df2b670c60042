"""A position goes to a client as text and comes back as it was; whatever else comes back is no position."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workhorse.analytics.live.positions import Position, format_positions, parse_positions

NUMBERS = st.integers(0, 10**18 - 1)


@given(st.lists(st.builds(Position, NUMBERS, NUMBERS), min_size=1, max_size=9))
def test_what_a_client_is_given_is_read_back(positions: list[Position]) -> None:
    assert parse_positions(format_positions(positions), len(positions)) == tuple(positions)


@given(st.text(max_size=2_000), st.integers(1, 4))
def test_no_text_does_harm(text: str, count: int) -> None:
    found = parse_positions(text, count)
    assert found is None or len(found) == count


@pytest.mark.parametrize(
    "text", ["", "1", "1.", ".1", "1.2_", "1.2_3.4", "-1.2", "1.2\n", "٣.1", "1" * 19 + ".1", "1.2.3"]
)
def test_what_is_no_position_is_none(text: str) -> None:
    assert parse_positions(text, 1) is None
