"""`workhorse run` on each server: start, serve, stop, and what happens when processes are killed."""

import os
import re
import signal
import socket
import time
from contextlib import suppress

import pytest

from tests.servers.conftest import Start, gone, in_background

pytestmark = pytest.mark.slow
KINDS = ["granian", "uvicorn", "hypercorn"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_serves_and_ends_cleanly_on_sigterm(kind: str, start: Start) -> None:
    run = start("--server", kind)
    assert run.ask("GET", "/-/live")[0] == 200
    first = run.ask("POST", "/notes?text=a", {"idempotency-key": "k"})
    assert first == (201, b'{"text":"a"}')
    assert run.ask("POST", "/notes?text=a", {"idempotency-key": "k"}) == first
    assert run.ask("GET", "/pid", {"host": "evil.test"})[0] == 421
    assert "serving served:service at http://127.0.0.1:" in run.said
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(15) == 0, run.said
    assert re.search(r"POST +201", run.said), "no access line was written"
    assert "Traceback" not in run.said
    with pytest.raises(OSError, match="refused"):
        run.ask("GET", "/-/live")


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_under_way_is_answered_before_it_stops(kind: str, start: Start) -> None:
    run = start("--server", kind)
    slow = in_background(lambda: run.ask("GET", "/slow?seconds=1.5"))
    time.sleep(0.5)
    run.process.send_signal(signal.SIGTERM)
    assert slow.result() == (200, b'"done"')
    assert run.process.wait(15) == 0


@pytest.mark.parametrize("kind", ["granian", "uvicorn"])
def test_it_says_not_ready_while_it_drains_and_still_serves(kind: str, start: Start) -> None:
    run = start("--server", kind, WORKHORSE_SERVER__DRAIN_SECONDS="1.5")
    run.process.send_signal(signal.SIGTERM)
    run.wait_until("/-/ready", 503, seconds=1)
    assert b'"draining"' in run.ask("GET", "/-/ready")[1]
    assert run.ask("GET", "/pid")[0] == 200
    assert run.process.wait(15) == 0


def test_metrics_are_right_across_workers(start: Start) -> None:
    run = start("--workers", "2")
    while len(run.pids()) < 2:
        pass
    before = counted(run.ask("GET", "/-/metrics")[1])
    for _ in range(40):
        run.ask("POST", "/notes?text=a")
    assert {counted(run.ask("GET", "/-/metrics")[1]) - before for _ in range(10)} == {40}


def counted(metrics: bytes) -> int:
    found = re.search(rb'seconds_count\{method="POST",route="/notes",status="201"\} (\d+)', metrics)
    return int(found[1]) if found else 0


def test_a_worker_that_is_killed_is_replaced_and_what_it_counted_stays(start: Start) -> None:
    run = start()
    for _ in range(5):
        run.ask("POST", "/notes?text=a")
    (worker,) = run.pids()
    os.kill(worker, signal.SIGKILL)
    assert gone(worker)
    run.wait_until("/pid", 200)
    assert worker not in run.pids()
    run.ask("POST", "/notes?text=a")
    assert counted(run.ask("GET", "/-/metrics")[1]) == 6


@pytest.mark.parametrize("kind", ["uvicorn", "hypercorn"])
def test_what_becomes_of_a_run_whose_worker_is_killed(kind: str, start: Start) -> None:
    """granian's is above. uvicorn replaces one of several; hypercorn ends, so that whoever started it sees."""
    run = start("--server", kind, "--workers", "2")
    workers = run.pids()
    while len(workers) < 2:
        workers |= run.pids()
    victim = min(workers)
    os.kill(victim, signal.SIGKILL)
    assert gone(victim)
    if kind == "hypercorn":
        assert run.process.wait(30) != 0
        return
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with suppress(OSError):
            if len(run.pids() - {victim}) == 2:
                return
    raise AssertionError(f"the worker was not replaced:\n{run.said}")


@pytest.mark.parametrize("kind", [*KINDS, "hypercorn --runtime trio"])
def test_when_the_main_process_is_killed_its_workers_end_too(kind: str, start: Start) -> None:
    run = start("--server", *kind.split(), "--workers", "2")
    workers = run.pids()
    os.kill(run.process.pid, signal.SIGKILL)
    run.process.wait()
    for worker in workers:
        assert gone(worker), f"worker {worker} is still there"
    start("--server", *kind.split(), port=run.port)


def test_a_port_that_is_taken_is_said_before_anything_starts(start: Start) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        run = start(port=other.getsockname()[1], wait=False)
        assert run.process.wait(15) == 1
    assert "cannot be listened on" in run.said
    assert "--port" in run.said
    assert "Traceback" not in run.said


@pytest.mark.parametrize(
    ("app", "message"),
    [
        ("raise RuntimeError('broken at import')", "broken at import"),
        ("service = 1 / 0", "division by zero"),
        ("other = 1", "service"),
    ],
)
def test_an_app_that_cannot_be_loaded_ends_the_run_with_its_error(app: str, message: str, start: Start) -> None:
    run = start(app=app, wait=False)
    assert run.process.wait(20) != 0
    assert message in run.said


def test_a_database_that_is_away_ends_the_start_with_a_sentence(start: Start) -> None:
    run = start(wait=False, DATABASE_URL="postgresql://127.0.0.1:1/x")
    assert run.process.wait(30) != 0
    assert "cannot start" in run.said
    assert "the database cannot be reached" in run.said


@pytest.mark.parametrize("kind", ["granian", "uvicorn"])
def test_a_changed_file_is_served_in_development(kind: str, start: Start) -> None:
    run = start("--server", kind, "--reload")
    source = run.folder / "served.py"
    source.write_text(source.read_text().replace('return "done"', 'return "changed"'))
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            if run.ask("GET", "/slow?seconds=0", timeout=2)[1] == b'"changed"':
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"the change was not served:\n{run.said}")
