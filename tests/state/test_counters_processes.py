"""Several real processes on one counter never get more than the limit, and hardly less."""

import json
import subprocess
import sys
from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.state.counters_kit import SHARED_BACKENDS, Place, migrated_place
from workhorse.embedded import Attachment
from workhorse.rate import Quota

SECONDS = 1.2


@pytest.fixture(scope="module")
def place(servers: Attachment) -> Iterator[Place]:
    with migrated_place(servers) as place:
        yield place


@pytest.mark.slow
@pytest.mark.parametrize("backend", SHARED_BACKENDS)
def test_four_processes_that_hammer_one_counter_share_its_limit(backend: str, place: Place) -> None:
    quota = Quota(uuid4().hex, 10_000, 200)
    arguments = json.dumps([backend, place, quota, SECONDS])
    command = [sys.executable, "-m", "tests.state.counters_kit", arguments]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    try:
        results = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    admitted = sum(result["admitted"] for result in results)
    span_seconds = max(result["ended"] for result in results) - min(result["began"] for result in results)
    assert all(result["admitted"] for result in results)
    assert admitted <= quota.capacity + span_seconds * 1e6 / quota.interval_us
    lost = quota.capacity // 2 if backend.startswith("lending") else 0
    # Beside other load the processes may not get round to asking for all of it.
    assert admitted >= quota.capacity - lost + 0.6 * SECONDS * 1e6 / quota.interval_us
