"""Several real processes want one lease: one has it at a time, and a killed one's ends."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
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
    command = [sys.executable, "-m", "tests.state.lease_kit", json.dumps(given)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("backend", SHARED_BACKENDS)
def test_no_two_processes_hold_it_at_once_and_tokens_grow_with_time(backend: str, place: Place) -> None:
    name = f"name {uuid4()}"
    processes = [started("contend", backend, place, name, 1.5) for _ in range(3)]
    try:
        held = [one for process in processes for one in json.loads(process.communicate(timeout=60)[0])]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    held.sort(key=lambda one: one["began"])
    assert len(held) > 10
    assert all(before["ended"] <= after["began"] for before, after in pairwise(held))
    assert all(before["token"] < after["token"] for before, after in pairwise(held))


@pytest.mark.parametrize("backend", SHARED_BACKENDS)
def test_the_lease_of_a_killed_process_ends_in_its_time_and_not_before(backend: str, place: Place) -> None:
    name, ttl = f"name {uuid4()}", 2.0
    holder = started("hold", backend, place, name, ttl)
    try:
        assert holder.stdout is not None
        token = int(holder.stdout.readline())
        time.sleep(ttl * 1.2)  # it is renewed
        holder.kill()
        killed = time.monotonic()
        follower = started("contend", backend, place, name, 4)
        held = json.loads(follower.communicate(timeout=60)[0])
    finally:
        holder.kill()
        holder.communicate()
    assert held[0]["token"] > token
    assert held[0]["began"] - killed > ttl / 3 - 0.2
