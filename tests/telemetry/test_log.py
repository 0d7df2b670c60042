import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from workhorse.telemetry import AccessLine, Log

NOON = datetime.fromtimestamp(1_700_000_000.25, UTC)


def access(path: str = "/a", **changes: Any) -> AccessLine:
    fields: dict[str, Any] = {
        "ts": NOON,
        "method": "GET",
        "path": path,
        "route": "/{x}",
        "status": 200,
        "duration_ms": 1.25,
        "client": "10.0.0.1",
        "request_id": "r1",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        **changes,
    }
    return AccessLine(**fields)


class Sink:
    """A file that a log writes to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().split("\n")[:-1]]


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    sink = Sink(tmp_path / "log")
    yield sink
    os.close(sink.fd)


def wait_until(condition: Any, seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_an_access_line_is_one_json_object_with_every_field(sink: Sink) -> None:
    log = Log(sink.fd)
    log.access(access("/accounts/7", status=429, control="rate", bytes_out=12))
    log.close()
    assert sink.records() == [
        {
            "ts": "2023-11-14T22:13:20.250000Z",
            "level": "info",
            "event": "access",
            "method": "GET",
            "path": "/accounts/7",
            "route": "/{x}",
            "status": 429,
            "duration_ms": 1.25,
            "client": "10.0.0.1",
            "request_id": "r1",
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            "control": "rate",
            "bytes_out": 12,
        }
    ]


def test_lines_are_written_within_the_interval_and_in_their_order(sink: Sink) -> None:
    log = Log(sink.fd, interval_seconds=0.01)
    log.event("info", "before.start")
    log.start()
    for number in range(1000):
        log.access(access(f"/{number}"))
        if number % 100 == 0:
            log.event("warning", "hundred", number=number)
    wait_until(lambda: len(sink.records()) == 1011)
    records = sink.records()
    log.close()
    assert records[0]["event"] == "before.start"
    assert [r["path"] for r in records if r["event"] == "access"] == [f"/{n}" for n in range(1000)]
    for index, record in enumerate(records):
        if record["event"] == "hundred":
            assert records[index - 1]["path"] == f"/{record['number']}"


def test_what_is_over_the_capacity_is_dropped_counted_and_told(sink: Sink) -> None:
    log = Log(sink.fd, capacity=10)
    for number in range(25):
        log.access(access(f"/{number}"))
    log.event("error", "late")
    assert log.dropped == 16
    log.close()
    records = sink.records()
    assert [r["path"] for r in records[:-1]] == [f"/{n}" for n in range(10)]
    assert (records[-1]["event"], records[-1]["count"]) == ("log.dropped", 16)


def test_what_is_below_the_level_is_not_written(sink: Sink) -> None:
    log = Log(sink.fd, level="warning")
    log.event("debug", "a")
    log.event("info", "b")
    log.access(access())
    log.event("warning", "c")
    log.event("error", "d")
    log.close()
    assert [r["event"] for r in sink.records()] == ["c", "d"]
    assert log.dropped == 0


def test_what_comes_after_close_is_counted_as_dropped(sink: Sink) -> None:
    log = Log(sink.fd)
    log.start()
    log.close()
    log.close()
    log.event("info", "late")
    log.access(access())
    assert log.dropped == 2
    assert sink.records() == []
    with pytest.raises(RuntimeError, match="closed"):
        log.start()


def test_lines_of_many_threads_all_arrive_and_each_thread_keeps_its_order(sink: Sink) -> None:
    log = Log(sink.fd, capacity=100_000, interval_seconds=0.001)
    log.start()

    def write(name: str) -> None:
        for number in range(3000):
            log.access(access(f"/{number}", client=name))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=write, args=(str(n),)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    log.close()
    records = sink.records()
    for name in "0123":
        assert [r["path"] for r in records if r["client"] == name] == [f"/{n}" for n in range(3000)]
    assert log.dropped == 0


def test_a_slow_reader_of_a_non_blocking_pipe_gets_every_line() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    log = Log(writing, interval_seconds=0.005)
    for number in range(2000):
        log.access(access(f"/{number}"))
    log.start()
    data = b""
    while data.count(b"\n") < 2000:
        time.sleep(0.001)
        assert select.select([reading], [], [], 5)[0], "the log stopped writing"
        data += os.read(reading, 8192)
    log.close()
    os.close(reading)
    os.close(writing)
    assert [json.loads(line)["path"] for line in data.splitlines()] == [f"/{n}" for n in range(2000)]
    assert log.dropped == 0


@pytest.mark.parametrize("blocking", [True, False])
def test_a_reader_that_takes_nothing_holds_up_close_no_longer_than_its_deadline(*, blocking: bool) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)
    log = Log(writing, interval_seconds=0.005)
    for number in range(5000):
        log.access(access(f"/{number}"))
    log.start()
    time.sleep(0.05)
    began = time.monotonic()
    log.close(deadline_seconds=0.2)
    assert time.monotonic() - began < 1
    os.set_blocking(reading, False)
    # What the pipe held is read, and the thread, if it hangs in its write, gets its error.
    held = os.read(reading, 1 << 20)
    os.close(reading)
    wait_until(lambda: held.count(b"\n") + log.dropped >= 4700)
    thread = log._thread
    assert thread is not None
    thread.join(5)
    assert not thread.is_alive()
    os.close(writing)


def test_a_line_that_broke_off_does_not_run_into_the_next() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    log = Log(writing, interval_seconds=0.005)
    log.start()
    for number in range(1000):
        log.access(access(f"/{number}" + "x" * 200))
    wait_until(lambda: log.dropped > 0)
    os.set_blocking(reading, False)
    data = os.read(reading, 1 << 20)
    log.event("info", "again")
    deadline = time.monotonic() + 10
    while b'"again"' not in data or b'"log.dropped"' not in data:
        assert time.monotonic() < deadline
        select.select([reading], [], [], 0.1)
        with contextlib.suppress(BlockingIOError):
            data += os.read(reading, 1 << 20)
    log.close()
    os.close(reading)
    os.close(writing)
    lines = data.split(b"\n")[:-1]
    whole: list[dict[str, Any]] = []
    torn = 0
    for line in lines:
        try:
            whole.append(json.loads(line))
        except ValueError:
            torn += 1
    assert torn == 1
    assert {"again", "log.dropped"} <= {record["event"] for record in whole}
    told = sum(record["count"] for record in whole if record["event"] == "log.dropped")
    assert len([r for r in whole if r["event"] == "access"]) + told == 1000


def test_a_reader_that_went_away_costs_lines_and_never_raises() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    log = Log(writing, interval_seconds=0.005)
    log.start()
    log.event("info", "one")
    wait_until(lambda: log.dropped == 1)
    log.event("info", "two")
    log.close()
    os.close(writing)
    assert log.dropped == 2


def test_a_descriptor_that_is_closed_costs_lines_and_never_raises(tmp_path: Path) -> None:
    log = Log(987_654)
    log.event("info", "one")
    log.close()
    assert log.dropped == 1


def test_fields_are_copied_at_once_and_redacted(sink: Sink) -> None:
    log = Log(sink.fd)
    items = [1, 2]
    log.event("info", "app.started", items=items, url="postgresql://u:hunter2@db/x", password="hunter2", n=2**80)
    items.append(3)
    log.close()
    (record,) = sink.records()
    assert record["items"] == [1, 2]
    assert record["url"] == "postgresql://u:***@db/x"
    assert record["password"] == "***"
    assert record["n"] == hex(2**80)


def test_a_field_cannot_pass_for_one_of_the_logs_own(sink: Sink) -> None:
    log = Log(sink.fd)
    log.event("info", "real", event="forged", level="error", ts="never", name="n", self="s")
    log.close()
    (record,) = sink.records()
    assert (record["event"], record["level"], record["event_"], record["level_"]) == ("real", "info", "forged", "error")
    assert (record["ts_"], record["name"], record["self"]) == ("never", "n", "s")


def test_an_object_that_cannot_be_written_is_named_by_its_type(sink: Sink) -> None:
    class Hostile:
        def __str__(self) -> str:
            raise ZeroDivisionError

    log = Log(sink.fd)
    log.event("info", "odd", hostile=Hostile(), many=list(range(1000)), text="x" * 20_000)
    log.close()
    (record,) = sink.records()
    assert "Hostile that cannot be written" in record["hostile"]
    assert len(record["many"]) == 100
    assert len(record["text"]) < 8300
    assert "11808 more characters" in record["text"]


def test_one_line_that_cannot_be_written_takes_no_other_with_it(sink: Sink) -> None:
    log = Log(sink.fd)
    log.access(access("/one"))
    log.access(access("/two", bytes_out=object()))
    log.access(access("/three\udcff"))
    log.event("info", "four", **{"k\udcff": ["\udcff"]})
    log.close()
    records = sink.records()
    assert [r.get("path", r["event"]) for r in records] == ["/one", "/three\\udcff", "four", "log.dropped"]
    assert records[2]["k\\udcff"] == ["\\udcff"]
    assert log.dropped == 1


def test_text_is_readable_and_has_colours_only_on_a_terminal(sink: Sink) -> None:
    def write(fd: int) -> None:
        log = Log(fd, format="text")
        log.access(access("/accounts/7", status=404))
        log.access(access("/with blank", status=429, control="rate"))
        log.event("warning", "db.lost", host="db1", reason="no route", tries=3)
        log.close()

    write(sink.fd)
    lines = sink.path.read_text().splitlines()
    assert lines[0][12:] == " GET     404     1.25 ms /accounts/7"
    assert lines[1][12:] == ' GET     429     1.25 ms "/with blank" refused by rate'
    assert lines[2][12:] == ' warning db.lost host=db1 reason="no route" tries=3'
    terminal, end = os.openpty()
    write(end)
    assert b"\x1b[33m404\x1b[0m" in os.read(terminal, 4096)
    os.close(terminal)
    os.close(end)


def test_importing_starts_no_thread_and_loads_no_driver() -> None:
    script = (
        "import sys, threading, workhorse.telemetry; print(threading.active_count(), "
        "sorted({'asyncio', 'psycopg', 'pydantic', 'http'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "1 []\n"
