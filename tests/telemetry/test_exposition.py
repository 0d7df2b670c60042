import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.telemetry.exposition_parser import parse
from workhorse.telemetry.exposition import Merged, bucket_quantile, exposition, merge
from workhorse.telemetry.shared_slots import Reading, Series

counts = st.lists(st.integers(0, 50), min_size=4, max_size=4)
BOUNDS = (0.5, 1.0, 4.0)


@pytest.mark.parametrize(
    ("q", "bounds", "numbers", "expected"),
    [
        (0.5, (1, 2, 4), (0, 10, 0, 0), 1.5),
        (0.9, (1, 2, 4), (10, 0, 0, 0), 0.9),
        (0.5, (1, 2, 4), (0, 0, 0, 10), 4),
        (1.0, (1, 2, 4), (1, 1, 2, 0), 4),
        (0.25, (1, 2, 4), (1, 1, 2, 0), 1),
        (0.75, (1, 2, 4), (1, 1, 2, 0), 3),
        (0.5, (-1, 2), (10, 0, 0), -1),
        (2, (1,), (1, 0), math.inf),
        (-1, (1,), (1, 0), -math.inf),
    ],
)
def test_a_quantile_is_interpolated_as_histogram_quantile_does(
    q: float, bounds: tuple[float, ...], numbers: tuple[float, ...], expected: float
) -> None:
    assert bucket_quantile(q, bounds, numbers) == pytest.approx(expected)


def test_a_quantile_of_nothing_is_nan() -> None:
    assert math.isnan(bucket_quantile(0.5, BOUNDS, (0, 0, 0, 0)))
    assert math.isnan(bucket_quantile(math.nan, BOUNDS, (1, 0, 0, 0)))


@given(counts, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_quantile_is_never_less_and_lies_within_the_bounds(
    numbers: list[int], one: float, other: float
) -> None:
    assume(sum(numbers) > 0)
    low, high = sorted((one, other))
    assert 0 <= bucket_quantile(low, BOUNDS, numbers) <= bucket_quantile(high, BOUNDS, numbers) <= BOUNDS[-1]


@given(st.lists(counts, min_size=1, max_size=5))
def test_merging_adds_up_every_process_in_any_order(rows: list[list[int]]) -> None:
    series = Series("app_seconds", "histogram", "", (), (), BOUNDS)
    readings = [Reading(series, [*map(float, row), float(sum(row))], living=bool(i % 2)) for i, row in enumerate(rows)]
    merged = merge(readings)["app_seconds"].series[()]
    assert merged == merge(readings[::-1])["app_seconds"].series[()]
    assert merged == [*(sum(column) for column in zip(*rows, strict=True)), sum(map(sum, rows))]
    parse(exposition(merge(readings).values()))


def test_gauges_of_dead_processes_are_left_out() -> None:
    series = Series("app_open", "gauge", "", (), ())
    merged = merge([Reading(series, [3.0], living=True), Reading(series, [4.0], living=False)])
    assert merged["app_open"].series == {(): [3.0]}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (3.0, "3"),
        (-2.5, "-2.5"),
        (1e300, "1e+300"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (1e-7, "1e-07"),
    ],
)
def test_a_number_is_written_so_that_it_is_read_back(value: float, text: str) -> None:
    data = exposition([Merged("app_open", "gauge", "", (), (), {(): [value]})])
    assert data.splitlines()[-1] == f"app_open {text}".encode()
    assert parse(data)["app_open"].samples[0].value == value


def test_nothing_is_written_of_nothing() -> None:
    assert exposition([Merged("app_total", "counter", "", ("a",), (), {})]) == b""
