"""The jobs benchmark: its instrument, its arithmetic, and a run of it on our own engine."""

import asyncio
import threading
import time
from pathlib import Path

import psycopg
import pytest

from benchmarks.jobs.engine import Gate, Servers
from benchmarks.jobs.engines import ENTRIES, OURS
from benchmarks.jobs.engines.celery_engine import broker_url
from benchmarks.jobs.engines.dbos_engine import in_psycopg
from benchmarks.jobs.marks import Mark, Marker, Marks
from benchmarks.jobs.measuring import Bench, Drain, judge
from benchmarks.jobs.report import Measured, claims, ratio, table
from benchmarks.processes import MeasurementError


def marked(path: Path, *numbers: int) -> Marks:
    marker = Marker(path)
    for number in numbers:
        marker(number)
    marker.close()
    return Marks(path)


def measured(*rates: float, idle: float | None = 0.25, delays: tuple[float, ...] = (1.0, 2.0, 30.0)) -> Measured:
    drains = [Drain(enqueued=1_000, drained=rate) for rate in rates]
    return Measured(one=drains, two=drains, delays_ms=list(delays), idle=idle)


def test_marks_are_read_in_the_order_of_their_times(tmp_path: Path) -> None:
    marks = marked(tmp_path / "marks", 2, 1)
    first, second = marks.read()
    assert (first.number, second.number) == (2, 1)
    assert first.at <= second.at
    assert len(marks) == 2


def test_a_mark_that_is_half_written_does_not_count_yet(tmp_path: Path) -> None:
    marks = marked(tmp_path / "marks", 1)
    with marks.path.open("ab") as file:
        file.write(b"half")
    assert len(marks) == 1
    assert [mark.number for mark in marks.read()] == [1]


def test_before_the_first_mark_there_is_none(tmp_path: Path) -> None:
    assert len(Marks(tmp_path / "marks")) == 0
    assert Marks(tmp_path / "marks").read() == []


def test_the_rate_is_of_the_jobs_after_the_first_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = marked(tmp_path / "marks", 7, 8, 9)

    def read(_: Marks) -> list[Mark]:
        return [Mark(8, 10.0), Mark(7, 10.5), Mark(9, 12.0)]

    monkeypatch.setattr(Marks, "read", read)
    assert judge("ours", marks, range(7, 10)) == 1.0


@pytest.mark.parametrize(
    ("begun", "said"),
    [
        ((1, 2), "ours: of 3 jobs 1 did not begin, and 0 began twice"),
        ((1, 2, 3, 3), "ours: of 3 jobs 0 did not begin, and 1 began twice"),
        ((1, 2, 2), "ours: of 3 jobs 1 did not begin, and 1 began twice"),
    ],
)
def test_a_drain_counts_only_if_each_job_began_once(tmp_path: Path, begun: tuple[int, ...], said: str) -> None:
    with pytest.raises(MeasurementError) as caught:
        judge("ours", marked(tmp_path / "marks", *begun), range(1, 4))
    assert str(caught.value) == said


def test_the_gate_holds_who_arrives_until_it_is_opened(tmp_path: Path) -> None:
    gate, passed = Gate(tmp_path), threading.Event()

    def worker() -> None:
        gate.arrive("one")
        passed.set()

    thread = threading.Thread(target=worker)
    thread.start()
    while not gate.waiting:
        time.sleep(0.001)
    assert not passed.wait(0.05)
    gate.open()
    thread.join(10)
    assert passed.is_set()


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    assert ratio(measured(600, 300, 900).two, measured(100, 100, 100).two) == 6.0
    assert ratio(measured(600, 300, 900).two, measured(600, 100, 450).two) == 2.0


def test_the_table_has_a_line_an_engine_and_a_dash_for_who_is_not_on_postgres() -> None:
    found = {"ours": measured(600, 300, 900), "theirs": measured(300, 300, 300, idle=None)}
    heading, ours, theirs = table({"ours": "Ours", "theirs": "Theirs"}, found, ours="ours").splitlines()
    assert len({len(line) for line in (heading, ours, theirs)}) == 1
    assert ours.split() == ["Ours", "1,000", "600", "600", "300..900", "1.00", "2.0", "30.0", "0.25"]
    assert theirs.split() == ["Theirs", "1,000", "300", "300", "300..300", "2.00", "2.0", "30.0", "-"]


def test_the_claims_are_those_of_two_workers_the_wait_and_idling() -> None:
    assert [str(claim) for claim in claims(measured(4_000, 6_000, 5_500))] == [
        "claim jobs.rate_of_two_workers 5500 >=5000 ok",
        "claim jobs.commit_to_start_p50_ms 2 <5 ok",
        "claim jobs.idle_transactions_per_s 0.25 <1 ok",
    ]
    assert [claim.holds for claim in claims(measured(4_999, idle=1.0, delays=(5.0,)))] == [False, False, False]


def test_urls_are_said_as_each_engine_wants_them() -> None:
    assert broker_url("unix:///run/valkey.sock") == "redis+socket:///run/valkey.sock"
    assert broker_url("redis://127.0.0.1:6379/0") == "redis://127.0.0.1:6379/0"
    assert in_psycopg("postgresql://u@/db?host=/run") == "postgresql+psycopg://u@/db?host=/run"


@pytest.mark.slow
def test_our_engine_is_measured_and_leaves_no_job_and_no_process(database_url: str) -> None:
    async def main() -> tuple[Drain, list[float]]:
        bench = Bench(name=OURS, entry=ENTRIES[OURS], servers=Servers(database=database_url, cache=""))
        await bench.prepare()
        return await bench.drain(500, 2), await bench.delays(5)

    drain, delays = asyncio.run(main())
    assert drain.enqueued > 100
    assert drain.drained > 100
    assert len(delays) == 5
    with psycopg.connect(database_url) as connection:
        counts = "SELECT (SELECT count(*) FROM workhorse.jobs), (SELECT count(*) FROM workhorse.finished_jobs)"
        assert connection.execute(counts.encode()).fetchone() == (0, 506)


@pytest.mark.slow
def test_an_engine_that_fails_says_why(empty_database_url: str) -> None:
    async def main() -> None:
        bench = Bench(name=OURS, entry=ENTRIES[OURS], servers=Servers(database=empty_database_url, cache=""))
        await bench.drain(10, 1)

    with pytest.raises(MeasurementError, match=r"workhorse: enqueue ended with code 1: (.|\n)*enqueue_jobs"):
        asyncio.run(main())
