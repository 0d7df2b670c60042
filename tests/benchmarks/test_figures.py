"""The arithmetic of measurements."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import Claim, Spread, percentile

finite = st.floats(min_value=-1e9, max_value=1e9)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([5.0], 0.5, 5.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([1.0, 2.0, 3.0], 0.5, 2.0),
        ([float(value) for value in range(1, 101)], 0.99, 99.0),
        ([float(value) for value in range(1, 101)], 1.0, 100.0),
        ([float(value) for value in range(1, 101)], 0.0, 1.0),
    ],
)
def test_a_percentile_is_the_nearest_rank(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


@given(st.lists(finite, min_size=1).map(sorted), st.floats(min_value=0, max_value=1))
def test_at_least_that_share_of_the_values_does_not_exceed_a_percentile(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.5), ([1.0], -0.1)])
def test_there_is_no_percentile_of_nothing_and_none_beyond_all(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="values"):
        percentile(values, share)


def test_a_spread_is_the_median_between_its_ends() -> None:
    assert Spread.of([3.0, 1.0, 10.0]) == Spread(3.0, 1.0, 10.0)
    assert Spread.of([1.0, 2.0]) == Spread(1.5, 1.0, 2.0)


@pytest.mark.parametrize(
    ("claim", "line"),
    [
        (Claim("bank.over_pgbench", 0.412, 0.3), "claim bank.over_pgbench 0.412 >=0.3 ok"),
        (Claim("bank.over_pgbench", 0.3, 0.3), "claim bank.over_pgbench 0.3 >=0.3 ok"),
        (Claim("bank.over_pgbench", 0.29, 0.3), "claim bank.over_pgbench 0.29 >=0.3 short"),
        (Claim("start.import_ms", 41.27, 100, "<"), "claim start.import_ms 41.27 <100 ok"),
        (Claim("start.import_ms", 100, 100, "<"), "claim start.import_ms 100 <100 short"),
    ],
)
def test_a_claim_says_whether_its_target_is_reached(claim: Claim, line: str) -> None:
    assert str(claim) == line
