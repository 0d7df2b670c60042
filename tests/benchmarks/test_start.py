"""How soon a service is there."""

from benchmarks.start.__main__ import Start, heavy_modules, measure_import, report


def test_importing_workhorse_loads_no_driver_and_no_framework() -> None:
    cost = measure_import()
    assert "workhorse" in cost.modules
    assert heavy_modules(cost.modules) == []
    assert cost.milliseconds > 0


def test_a_heavy_module_is_named_by_its_package() -> None:
    assert heavy_modules(["json", "psycopg.rows", "psycopg", "pydantic.main", "psycopgish"]) == ["psycopg", "pydantic"]


def test_the_report_ends_with_the_claims() -> None:
    text = report(Start([30.0, 50.0, 40.0], ["psycopg"], [1.5, 4.0, 3.5], [0.5, 0.7, 0.6]))
    assert text.splitlines() == [
        "import workhorse             40 ms (30..50)",
        "workhorse run, first reply   3.50 s (1.50..4.00)",
        "bare granian, first reply    0.60 s (0.50..0.70)",
        "loaded that should not be    psycopg",
        "",
        "claim start.import_ms 40 <100 ok",
        "claim start.import_heavy_modules 1 <1 short",
        "claim start.first_reply_s 3.5 <3 short",
    ]
