"""Real worker processes that share a folder, and are killed."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.telemetry.exposition_parser import parse, value_of
from workhorse.telemetry import Registry

WORKER = """
import sys
from pathlib import Path
from workhorse.telemetry import Registry

registry = Registry(Path(sys.argv[1]))
requests = registry.counter("app_total", "Requests.", ("kind",))
seconds = registry.histogram("app_seconds", "Time.")
load = registry.gauge("app_open", "Open.")
load.labels().set(2)
print("ready", flush=True)
for command in sys.stdin:
    turns, kind = command.split()
    for turn in range(int(turns)):
        requests.labels(kind).add()
        seconds.labels().observe(0.5)
        if turn % 997 == 0:
            requests.labels(f"{kind}-{turn}").add()
    print("done", flush=True)
registry.close()
"""


class Worker:
    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def tell(self, turns: int, kind: str = "x") -> None:
        assert self.process.stdin
        print(turns, kind, file=self.process.stdin, flush=True)

    def hear(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def end(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()
        finally:
            self.process.stdout.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Worker]]:
    workers: list[Worker] = []

    def start_worker() -> Worker:
        worker = Worker(tmp_path)
        workers.append(worker)
        return worker

    yield start_worker
    for worker in workers:
        worker.end()


def extra(turns: int) -> int:
    return len(range(0, turns, 997))


def test_the_counts_of_all_workers_add_up_and_outlive_a_killed_one(tmp_path: Path, start: Callable[[], Worker]) -> None:
    reader = Registry(tmp_path)
    reader.gauge("app_open", "Open.").labels().set(1)
    turns = 20_000
    workers = [start() for _ in range(3)]
    assert [worker.hear() for worker in workers] == ["ready"] * 3
    for worker in workers:
        worker.tell(turns)
    assert [worker.hear() for worker in workers] == ["done"] * 3
    assert reader.total("app_total", kind="x") == 3 * turns
    assert reader.total("app_open") == 7

    workers[1].kill()
    assert reader.total("app_total") == 3 * (turns + extra(turns))
    assert reader.total("app_open") == 5, "a dead worker's gauge must not linger"

    successor = start()
    assert successor.hear() == "ready"
    assert reader.total("app_open") == 7
    successor.tell(turns)
    assert successor.hear() == "done"
    assert reader.total("app_total") == 4 * (turns + extra(turns))
    assert reader.total("app_seconds") == 4 * turns
    assert value_of(parse(reader.render()), "app_seconds_sum") == 2 * turns
    assert len(list(tmp_path.glob("*.slots"))) == 4, "the successor must take the dead worker's files"
    reader.close()


def test_workers_that_are_killed_in_mid_observation_lose_nothing_that_was_counted(
    tmp_path: Path, start: Callable[[], Worker]
) -> None:
    reader = Registry(tmp_path)
    reader.counter("app_total", "Requests.", ("kind",))
    total = 0.0
    for turn in range(4):
        worker = start()
        assert worker.hear() == "ready"
        worker.tell(10_000_000, f"kind-{turn}")
        enough = total + 5_000
        deadline = time.monotonic() + 10
        while total < enough:
            assert time.monotonic() < deadline
            now = reader.total("app_total")
            assert now >= total, "a counter fell"
            total = now
        worker.kill()
        counted, observed = reader.total("app_total"), reader.total("app_seconds")
        assert counted >= total
        named = sum(reader.total("app_total", kind=f"kind-{n}") for n in range(turn + 1))
        assert 0 <= named - observed <= turn + 1, "each killed worker may be between its two observations"
        total = counted
    assert reader.total("app_total") == total
    assert len(list(tmp_path.glob("*.slots"))) == 2
    reader.close()


def test_what_is_rendered_while_others_write_is_whole_and_never_falls(
    tmp_path: Path, start: Callable[[], Worker]
) -> None:
    reader = Registry(tmp_path)
    workers = [start() for _ in range(2)]
    for worker in workers:
        assert worker.hear() == "ready"
        worker.tell(60_000)
    last = 0.0
    for _ in range(60):
        metrics = parse(reader.render())
        now = value_of(metrics, "app_seconds_count")
        assert now >= last
        last = now
    assert [worker.hear() for worker in workers] == ["done"] * 2
    assert value_of(parse(reader.render()), "app_total", kind="x") == 120_000
    reader.close()


def test_workers_that_start_at_the_same_time_get_files_of_their_own(
    tmp_path: Path, start: Callable[[], Worker]
) -> None:
    reader = Registry(tmp_path)
    for _ in range(2):
        workers = [start() for _ in range(4)]
        for worker in workers:
            worker.tell(100)
        for worker in workers:
            reader.render()
            assert [worker.hear(), worker.hear()] == ["ready", "done"]
        for worker in workers:
            worker.end()
    assert reader.total("app_total", kind="x") == 800
    assert reader.total("app_open") == 0
    assert len(list(tmp_path.glob("*.slots"))) == 5
    reader.close()


def test_a_registry_that_crossed_a_fork_says_so(tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from workhorse.telemetry import Registry
registry = Registry(Path(sys.argv[1]))
family = registry.counter("app_total", "", ("a",))
child = os.fork()
if child == 0:
    try:
        family.labels("x")
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
registry.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=20, check=True
    )
    assert "after the fork" in done.stdout


def test_a_full_disk_costs_a_series_and_never_a_request(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from workhorse.telemetry import Registry
folder = Path(sys.argv[1])
registry = Registry(folder)
family = registry.counter("app_total", "", ("a",))
family.labels("before").add()
size = (folder / "v1-0000.series").stat().st_size
for room in (0, 10):
    # What this process writes beyond the limit fails, or is cut, as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, resource.RLIM_INFINITY))
    family.labels("lost").add()
    assert (folder / "v1-0000.series").stat().st_size == size
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
family.labels("after").add()
family.labels("before").add()
print([registry.total("app_total", a=a) for a in ("before", "lost", "after")])
print(registry.total("workhorse_metrics_series_dropped_total"))
registry.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.stdout, done.stderr) == ("[2.0, 0.0, 1.0]\n2.0\n", "")
