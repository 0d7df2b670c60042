"""Traffic is counted rightly, and what a right bank would not do does not pass for success."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bank.auditor import Finding
from bank.demo_screen import Outcome, find_faults, progress_line, summary
from bank.traffic_report import FileOutcome, Histogram, Tally, TrafficReport

ADVICES = {"transfers": 12_000, "announced": 12_000, "advised": 12_000, "waiting": 0}
AUDIT = {"balanced": True, "transfers": 12_345, "currencies": [{"accounts": 6}, {"accounts": 4}], "advices": ADVICES}


def good_report() -> TrafficReport:
    tally = Tally(requests=110, posted=100, repeated=7, one_effect=7)
    for milliseconds in range(1, 101):
        tally.latency.add(milliseconds / 1000)
    tally.statuses.update({201: 107, 409: 3})
    tally.problems["urn:bank:problem:insufficient-funds"] = 3
    tally.files.append(FileOutcome(transactions=500, posted=499, refused=1))
    return tally.report(2.0)


@given(st.lists(st.floats(1e-6, 1000.0), min_size=1), st.floats(0, 1))
def test_a_quantile_is_right_to_one_percent(durations: list[float], share: float) -> None:
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    exact = next(
        value for place, value in enumerate(sorted(durations), start=1) if place >= max(1, share * len(durations))
    )
    assert histogram.quantile(share) == pytest.approx(exact, rel=0.01)


def test_durations_beyond_the_range_are_counted_at_its_ends() -> None:
    histogram = Histogram()
    histogram.add(0.0)
    histogram.add(1e9)
    assert histogram.count == 2
    assert histogram.quantile(0.5) == pytest.approx(1e-6, rel=0.01)
    assert histogram.quantile(1.0) == pytest.approx(1000, rel=0.01)


def test_nothing_measured_has_no_quantile() -> None:
    assert Histogram().quantile(0.5) is None


def test_a_report_gives_the_rate_and_the_quantiles() -> None:
    report = good_report()
    assert report.transfers_per_second == 50
    assert report.p50_ms == pytest.approx(50, rel=0.01)
    assert report.p99_ms == pytest.approx(99, rel=0.01)
    assert report.as_promised


def test_only_a_few_wrong_answers_are_told_and_all_are_counted() -> None:
    tally = Tally()
    for number in range(1000):
        tally.blame(f"fault {number}")
    report = tally.report(1.0)
    assert report.wrong == 1000
    assert report.examples == ("fault 0", "fault 1", "fault 2", "fault 3", "fault 4")
    assert not report.as_promised


def test_the_summary_of_a_good_run_names_the_figures_and_no_fault() -> None:
    outcome = Outcome(good_report(), AUDIT, waited=17)
    assert find_faults(outcome) == []
    text = summary(outcome)
    for part in (
        "100 posted in 2 s: 50/s", "7 had one effect", "3 requests: 3 insufficient-funds",
        "one commit of 500: 499 posted, 1 refused", "balanced: yes (12,345 transfers over 10 accounts in 2 currencies",
        "12,000 written and 12,000 events for 12,000 transfers", "0 waiting; 17 when the traffic ended",
    ):  # fmt: skip
        assert part in text
    assert "100 transfers posted (50/s" in progress_line(outcome.traffic)


@pytest.mark.parametrize(
    ("traffic", "audit", "fault"),
    [
        pytest.param({"one_effect": 6}, {}, "1 retried keys had more than one effect", id="two effects"),
        pytest.param({"statuses": {500: 2}}, {}, "2 answers were of status 500", id="an error of the bank"),
        pytest.param({"posted": 0}, {}, "no transfer was posted", id="no work"),
        pytest.param({"repeated": 0, "one_effect": 0}, {}, "no key was retried", id="no retry"),
        pytest.param({"wrong": 9, "examples": ("a",)}, {}, "and 8 more like these", id="wrong answers"),
        pytest.param({}, {"balanced": False}, "the books do not balance", id="the books do not balance"),
        pytest.param({}, {"advices": {**ADVICES, "waiting": 3}}, "3 jobs still wait", id="jobs that are not done"),
        pytest.param({}, {"advices": {**ADVICES, "announced": 11_999}}, "exactly one event", id="a missing event"),
        pytest.param({}, {"advices": {**ADVICES, "advised": 11_999}}, "one advice", id="a missing advice"),
    ],
)
def test_each_broken_promise_is_a_fault(traffic: dict[str, object], audit: dict[str, object], fault: str) -> None:
    outcome = Outcome(replace(good_report(), **traffic), {**AUDIT, **audit})  # type: ignore[arg-type]
    assert any(fault in found for found in find_faults(outcome))


@pytest.mark.parametrize(("found", "said"), [(True, "named event e-1"), (False, "did NOT name it")])
def test_an_amount_that_was_changed_must_be_named(found: bool, said: str) -> None:  # noqa: FBT001
    finding = Finding(sealed=41, event="e-1", found=found, said="as it was signed")
    outcome = Outcome(good_report(), AUDIT, edit=finding)
    assert said in summary(outcome)
    assert bool(find_faults(outcome)) is not found
