"""The benchmark of a Django project's cost: its arithmetic, and one quick run."""

import asyncio
from pathlib import Path

import pytest

from benchmarks.django.__main__ import QUICK, compare
from benchmarks.django.lines import LINES
from benchmarks.django.report import Cost, added, claims, table

COSTS = {name: Cost(round_trips=3, cpu_us=[100.0, 300.0, 120.0]) for name in LINES} | {
    "security": Cost(cpu_us=[200.0, 420.0, 200.0]),
    "workhorse": Cost(cpu_us=[130.0, 340.0, 150.0]),
    "security+session": Cost(cpu_us=[300.0, 500.0, 320.0]),
    "workhorse+session": Cost(cpu_us=[400.0, 600.0, 420.0]),
    "write, unit": Cost(round_trips=5, cpu_us=[150.0, 450.0, 180.0]),
}


def test_differences_are_those_of_one_round() -> None:
    assert added(COSTS["security"], COSTS["bare"]) == 100
    assert added(COSTS["workhorse"], COSTS["bare"]) == 30


def test_claims_hold_the_guard_against_what_it_replaces() -> None:
    said = {claim.name: (claim.value, claim.holds) for claim in claims(COSTS)}
    assert said == {
        "django.guard_over_replaced": (0.3, True),
        "django.guard_and_session_over_replaced": (1.5, False),
        "django.unit_added_trips": (2, False),
    }


def test_each_line_is_told_beside_its_base() -> None:
    lines = table(COSTS).splitlines()
    assert len(lines) == 1 + len(LINES)
    assert lines[-1].split() == ["a", "write", "in", "a", "unit", "5", "180", "150..450", "60", "1.50"]


@pytest.mark.slow
def test_a_quick_run_serves_every_line_and_counts_its_trips(tmp_path: Path) -> None:
    printed = asyncio.run(compare(QUICK, folder=tmp_path))
    trips = {line.title: printed.split(line.title, 1)[1].split()[0] for line in LINES.values() if line.method == "POST"}
    assert trips == {"a write in atomic()": "3", "the same under Workhorse": "3", "a write in a unit": "4"}
    assert "claim django.unit_added_trips 1 <1.01 ok" in printed
