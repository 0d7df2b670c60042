"""However many processes want a value at once, one makes it; and if that one is killed, another does."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.state.cache_kit import SHARED_BACKENDS
from tests.state.counters_kit import Place, migrated_place
from workhorse.embedded import Attachment

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(servers: Attachment) -> Iterator[Place]:
    with migrated_place(servers) as place:
        yield place


def started(*given: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.caching.stampede_kit", json.dumps(given, default=str)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def let_go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


@pytest.mark.parametrize("backend", SHARED_BACKENDS)
def test_of_four_processes_with_fifty_tasks_each_one_makes_the_value(
    backend: str, place: Place, tmp_path: Path
) -> None:
    options = {"making": 30, "seconds": 0.3, "tasks": 50}
    key = str(uuid4())
    processes = [started(backend, place, key, tmp_path / "lines", options) for _ in range(4)]
    try:
        for process in processes:
            let_go(process)
        results = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert results == [[1] * 50] * 4
    assert len((tmp_path / "lines").read_text().splitlines()) == 1


@pytest.mark.parametrize("backend", SHARED_BACKENDS)
def test_when_the_maker_is_killed_another_makes_it_after_the_makers_time(
    backend: str, place: Place, tmp_path: Path
) -> None:
    lines, key = tmp_path / "lines", str(uuid4())
    victim = started(backend, place, key, lines, {"making": 1.5, "seconds": 60, "tasks": 1})
    others = [started(backend, place, key, lines, {"making": 30, "seconds": 0.2, "tasks": 5}) for _ in range(2)]
    try:
        let_go(victim)
        deadline = time.monotonic() + 20
        while not lines.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for process in others:
            let_go(process)
        victim.kill()
        results = [json.loads(process.communicate(timeout=60)[0]) for process in others]
    finally:
        for process in (victim, *others):
            process.kill()
            process.communicate()
    assert results == [[2] * 5] * 2
    first, second = map(float, lines.read_text().splitlines())
    assert second - first > 1
