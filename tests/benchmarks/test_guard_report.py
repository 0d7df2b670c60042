"""The guard's tables and claims."""

import pytest

from benchmarks.guard.messages import Figure
from benchmarks.guard.profiling import FunctionCost
from benchmarks.guard.report import (
    Costs,
    Measured,
    Row,
    added,
    claims,
    columns,
    compiled_line,
    costs_of,
    failures,
    layer_table,
    profile_table,
    ratio,
    server_ratio,
    server_table,
    take_table,
)
from benchmarks.guard.serving import brief
from benchmarks.guard.takes import TakeCost
from benchmarks.guard.traffic import Method

METHODS: tuple[Method, Method] = ("GET", "POST")
TITLES = {
    "fastapi": "FastAPI",
    "fastapi+shape": "FastAPI + a shape",
    "fastapi+guard": "FastAPI + our guard",
    "fastapi+careful": "FastAPI + careful stack",
}


def costs(**both: tuple[float, float]) -> Costs:
    """By name, with `_` for `+`: the cost of a GET and of a POST."""
    return {
        (name.replace("_", "+"), method): value
        for name, values in both.items()
        for method, value in zip(METHODS, values, strict=True)
    }


WHOLE = costs(
    fastapi=(600_000, 500_000),
    fastapi_guard=(660_000, 580_000),
    fastapi_careful=(2_600_000, 2_500_000),
    litestar=(300_000, 350_000),
    litestar_all=(900_000, 1_350_000),
    django=(1_700_000, 1_700_000),
    django_all=(4_700_000, 4_100_000),
)


def test_a_cost_is_the_median_of_its_rounds() -> None:
    figures = [Figure(contestant="null", method="GET", per_request=value) for value in (5.0, 1.0, 3.0)]
    assert costs_of([*figures, Figure(contestant="null", method="POST", per_request=7.0)]) == {
        ("null", "GET"): 3.0,
        ("null", "POST"): 7.0,
    }


def test_a_contestant_that_failed_once_has_no_cost_at_all() -> None:
    figures = [
        Figure(contestant="null", method="GET", per_request=5.0),
        Figure(contestant="null", method="POST", failed="UnexpectedAnswer: 500"),
        Figure(contestant="fastapi", method="GET", per_request=9.0),
    ]
    assert costs_of(figures) == {("fastapi", "GET"): 9.0}


def test_who_failed_is_named_with_the_first_reason_that_it_gave() -> None:
    figures = [
        Figure(contestant="fastapi", method="GET", failed="no module named x"),
        Figure(contestant="fastapi", method="POST", failed="another one"),
        Figure(contestant="fastapi+guard", method="GET", per_request=1.0),
    ]
    assert failures(figures, TITLES, "CPU time") == ["failed CPU time: FastAPI: no module named x"]


def test_what_a_layer_adds_is_the_difference_to_what_it_stands_on() -> None:
    assert added(WHOLE, "fastapi+guard", "fastapi", "POST") == 80_000
    assert added(WHOLE, "fastapi+guard", "starlette", "POST") is None


def test_a_ratio_is_that_of_the_method_where_ours_does_worse() -> None:
    found = ratio(WHOLE, ("fastapi+guard", "fastapi"), ("fastapi+careful", "fastapi"))
    assert found == pytest.approx(80 / 2000)  # a GET has 60 / 2000


def test_there_is_no_ratio_to_a_stack_that_adds_nothing() -> None:
    free = {**WHOLE, ("fastapi+careful", "GET"): 600_000.0}
    assert ratio(free, ("fastapi+guard", "fastapi"), ("fastapi+careful", "fastapi")) is None


def test_the_claims_compare_instructions_where_they_were_counted() -> None:
    slow = {which: value * 2 for which, value in WHOLE.items()}
    slow["fastapi+guard", "GET"] = 4_000_000.0
    lines = claims(Measured(instructions=WHOLE, microseconds=slow), servers=False)
    assert lines == [
        "claim guard.in-process 0.04 <0.05 ok",
        "claim guard.litestar 0.1 <1 ok",
        "claim guard.django 0.03333 <1 ok",
    ]
    assert claims(Measured(microseconds=slow), servers=False)[0].endswith(" short")


def test_the_compiled_guard_is_claimed_only_where_it_was_measured() -> None:
    compiled = costs(fastapi=(600_000, 500_000), fastapi_guard=(620_000, 530_000))
    lines = claims(Measured(instructions=WHOLE, compiled=compiled), servers=False)
    assert lines[1] == "claim guard.in-process-compiled 0.015 <0.025 ok"
    assert not any("compiled" in line for line in claims(Measured(instructions=WHOLE)))


def test_what_the_compiled_guard_adds_is_told() -> None:
    compiled = costs(fastapi=(600_000, 500_000), fastapi_guard=(620_000, 530_000))
    line = compiled_line(Measured(instructions=WHOLE, compiled=compiled))
    assert line == "compiled, our guard adds to FastAPI: 20.0 (GET), 30.0 (POST) k instructions"


def test_a_compiled_guard_is_taken_from_the_app_that_was_measured_with_it() -> None:
    compiled = costs(fastapi=(900_000, 900_000), fastapi_guard=(920_000, 930_000))
    assert claims(Measured(instructions=WHOLE, compiled=compiled))[1].startswith(
        "claim guard.in-process-compiled 0.015 "
    )


def test_a_claim_without_its_figures_is_short_and_not_left_out() -> None:
    without = {which: value for which, value in WHOLE.items() if which[0] != "litestar+all"}
    lines = claims(Measured(instructions=without), servers=False)
    assert lines[1] == "claim guard.litestar - <1 short (a figure is missing: see what failed)"
    assert lines[0].endswith("ok")
    assert lines[2].endswith("ok")


def test_on_servers_the_worst_of_them_counts_with_both_methods_together() -> None:
    servers = {
        "granian": costs(fastapi=(100, 100), fastapi_guard=(110, 110), fastapi_careful=(500, 500)),
        "uvicorn": costs(fastapi=(100, 100), fastapi_guard=(120, 130), fastapi_careful=(500, 600)),
    }
    assert server_ratio(servers) == pytest.approx(50 / 900)
    del servers["uvicorn"]["fastapi+careful", "POST"]  # type: ignore[attr-defined]
    assert server_ratio(servers) is None
    assert server_ratio({}) is None


def test_the_table_has_instructions_then_times_and_a_dash_for_what_is_not_there() -> None:
    rows = [
        Row(name="fastapi", title="FastAPI", base="fastapi"),
        Row(name="fastapi+guard", title="FastAPI + our guard", base="fastapi"),
        Row(name="fastapi+cors", title="FastAPI + CORS", base="fastapi"),
    ]
    times = costs(fastapi=(150, 120), fastapi_guard=(165, 140))
    heading, bare, ours, absent = layer_table(rows, Measured(instructions=WHOLE, microseconds=times)).splitlines()
    assert heading.split()[:2] == ["per", "request"]
    assert bare.split() == ["FastAPI", "600.0", "500.0", "150.0", "120.0"]
    assert ours.split()[-8:] == ["660.0", "580.0", "60.0", "80.0", "165.0", "140.0", "15.0", "20.0"]
    assert absent.split()[-8:] == ["-"] * 8
    assert len({len(line) for line in (heading, ours, absent)}) == 1


def test_without_valgrind_the_table_has_times_only() -> None:
    rows = [Row(name="fastapi", title="FastAPI", base="null")]
    table = layer_table(rows, Measured(microseconds=costs(null=(10, 10), fastapi=(150, 120))))
    assert "k GET" not in table
    assert table.splitlines()[1].split() == ["FastAPI", "150.0", "120.0", "140.0", "110.0"]


def test_each_server_has_a_line_a_contestant() -> None:
    table = server_table(Measured(servers={"granian": costs(fastapi=(100, 90), fastapi_guard=(110, 105))}), TITLES)
    _, bare, _, ours, careful = table.splitlines()
    assert bare.split() == ["granian:", "FastAPI", "100.0", "90.0"]
    assert ours.split()[-4:] == ["110.0", "105.0", "10.0", "15.0"]
    assert careful.split()[-4:] == ["-"] * 4


def test_a_store_that_failed_stays_in_the_table() -> None:
    takes = [
        TakeCost(title="ours: memory", cpu_us=2.34, p50_us=2.0, rate=380_000),
        TakeCost(title="limits: Valkey", failed="ConnectionError: no"),
    ]
    _, ours, theirs = take_table(takes).splitlines()
    assert ours.split() == ["ours:", "memory", "2.3", "2", "380,000"]
    assert theirs.split() == ["limits:", "Valkey", "-", "-", "-"]


def test_a_profile_tells_shares_of_the_whole() -> None:
    functions = [FunctionCost("Guard._serve:guard/layer.py", own=20_000.0, calls=2.0)]
    heading, line = profile_table("GET", functions, 200_000).splitlines()
    assert "200.0 k" in heading
    assert line.split() == ["Guard._serve:guard/layer.py", "20.0", "2.0", "10.0%"]


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert columns([["a", "1"], ["bcd", "22"]]) == "a     1\nbcd  22"


def test_of_a_servers_last_words_the_first_and_the_last_line_are_told() -> None:
    said = "the server granian ended with code 1. Its log ends:\nTraceback\n  File x\nValueError: not enough values\n"
    assert brief(said) == "the server granian ended with code 1. Its log ends: ... ValueError: not enough values"
    assert brief("one line") == "one line"
    assert brief("\n") == "it ended without a word"
