"""The benchmark of a unit's cost: what it counts is held against the wire, and its arithmetic."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from benchmarks.processes import MeasurementError
from benchmarks.unit.apps import APPS, BARE, NO_UNIT, App, Wrote
from benchmarks.unit.measuring import count_costs, prepare, time_costs
from benchmarks.unit.report import Cost, added, claims, share, spelled, table


def counted(url: str, apps: Mapping[str, App], *, rounds: int = 0) -> dict[str, Cost]:
    async def main() -> dict[str, Cost]:
        await prepare(url)
        costs = await count_costs(apps, url)
        await time_costs(apps, url, costs, rounds=rounds, requests=2)
        return costs

    return asyncio.run(main())


def cost(trips: float, *cpu_us: float) -> Cost:
    return Cost(statements=trips, round_trips=trips, trips=[["BEGIN", "SELECT 1"], ["COMMIT"]], cpu_us=list(cpu_us))


LINES = {name: APPS[name] for name in (BARE, NO_UNIT, "psycopg", "unit")}
COSTS = {
    BARE: cost(0, 100, 200, 120),
    NO_UNIT: cost(0, 104, 206, 132),
    "psycopg": cost(3, 500, 1_000, 600),
    "unit": cost(4, 700, 1_100, 900),
}


@pytest.mark.slow
def test_a_unit_makes_the_round_trips_of_a_transaction_by_hand(database_url: str) -> None:
    names = (BARE, NO_UNIT, "psycopg", "unit", "unit+key", "unit+event", "unit+job", "psycopg sync", "sync unit")
    costs = counted(database_url, {name: APPS[name] for name in names}, rounds=1)
    assert {name: costs[name].round_trips for name in names} == {
        name: 0 if name in {BARE, NO_UNIT} else 3 for name in names
    }
    assert [list(trip) for trip in costs["psycopg"].trips] == [
        ["BEGIN"],
        ["INSERT INTO notes (text) VALUES ($1)"],
        ["COMMIT"],
    ]
    assert all(one.cpu_us[0] > 0 and len(one.cpu_us) == 1 for one in costs.values())


def test_an_app_that_does_not_write_what_it_should_has_no_figure(database_url: str) -> None:
    liar = replace(APPS["unit"], wrote=Wrote(jobs=1))
    with pytest.raises(MeasurementError, match=r"liar: 40 requests left Wrote\(notes=40, .*, jobs=0\)"):
        counted(database_url, {"liar": liar})


def test_differences_and_ratios_are_medians_of_the_rounds_own() -> None:
    assert added(COSTS["unit"], COSTS["psycopg"]) == 200  # of 200, 100 and 300
    assert share(COSTS["unit"], COSTS["psycopg"]) == 1.4  # of 1.4, 1.1 and 1.5


def test_a_unit_stands_below_what_it_is_compared_with() -> None:
    heading, bare, nothing, by_hand, ours = table(LINES, COSTS).splitlines()
    assert heading.split()[:2] == ["a", "request"]
    assert bare.split()[-4:] == ["0", "0", "120", "100..200"]
    assert nothing.split()[-6:] == ["0", "+0", "132", "104..206", "+6", "1.04"]
    assert by_hand.split()[-4:] == ["3", "3", "600", "500..1000"]
    assert ours.split()[-6:] == ["4", "+1", "900", "700..1100", "+200", "1.40"]


def test_the_claims_take_the_worst_unit() -> None:
    assert [str(claim) for claim in claims(LINES, COSTS, bare=BARE, no_unit=NO_UNIT)] == [
        "claim unit.extra_round_trips 1 <2 ok",
        "claim unit.cost_of_no_unit 0.04 <0.05 ok",
    ]
    worse = {**COSTS, "unit": cost(5, 700, 1_100, 900), NO_UNIT: cost(0, 110, 220, 132)}
    assert [claim.holds for claim in claims(LINES, worse, bare=BARE, no_unit=NO_UNIT)] == [False, False]


def test_statements_are_told_by_round_trip() -> None:
    assert spelled({"unit": APPS["unit"]}, COSTS).splitlines() == [
        APPS["unit"].title,
        "    BEGIN; SELECT 1",
        "    COMMIT",
    ]
