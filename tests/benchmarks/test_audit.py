"""The benchmark of the audit log and of privacy runs, and sees that what it timed was done."""

import asyncio
import re
from pathlib import Path

import pytest

from benchmarks.audit.__main__ import measure
from benchmarks.audit.log import time_proofs


def test_proofs_grow_with_the_logarithm_of_the_log() -> None:
    found = time_proofs((1_000, 1_000_000), proofs=20)
    assert [round(one.hashes) for one in found] == [10, 20]
    assert found[1].bytes == found[1].hashes * 32


@pytest.mark.slow
def test_all_of_it_is_timed(tmp_path: Path) -> None:
    printed = asyncio.run(measure(events=300, personal_events=20, fields=20, rounds=1, folder=tmp_path))
    assert re.search(r"^30[0-9] events: sealed [0-9]+/s", printed, re.MULTILINE)
    assert "a person of 20 events: exported in" in printed
    claims = [line.split()[1] for line in printed.splitlines() if line.startswith("claim ")]
    assert claims == [
        "audit-sealed-events-per-second",
        "audit-verified-events-per-second",
        "audit-proof-bytes-at-100-million",
    ]
