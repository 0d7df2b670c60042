"""The benchmark of the audit log and of privacy runs, and sees that what it timed was done."""

import asyncio
import re
from pathlib import Path

import pytest

from benchmarks.audit.__main__ import measure
from benchmarks.audit.history import OURS, claims, table
from benchmarks.audit.log import time_proofs


def test_proofs_grow_with_the_logarithm_of_the_log() -> None:
    found = time_proofs((1_000, 1_000_000), proofs=20)
    assert [round(one.hashes) for one in found] == [10, 20]
    assert found[1].bytes == found[1].hashes * 32


def test_a_history_is_held_against_the_change_without_it() -> None:
    times = {
        "sqlalchemy": [100.0, 400.0],
        "continuum": [300.0, 600.0],
        "django": [100.0, 100.0],
        "auditlog": [150.0, 150.0],
        "workhorse": [500.0, 600.0],
        "workhorse, audited": [600.0, 700.0],
    }
    assert [(claim.name, claim.value, claim.holds) for claim in claims(times)] == [
        ("audit-history-over-continuum", 0.5, True),
        ("audit-history-over-auditlog", 2.0, False),
    ]
    assert table(times).splitlines()[2].split() == ["with", "SQLAlchemy-Continuum", "450", "200", "2.25"]
    assert claims({name: times[name] for name in OURS}) == []


@pytest.mark.slow
def test_all_of_it_is_timed(tmp_path: Path) -> None:
    printed = asyncio.run(
        measure(events=300, personal_events=20, fields=20, rounds=1, folder=tmp_path, contestants=OURS)
    )
    assert re.search(r"^30[0-9] events: sealed [0-9]+/s", printed, re.MULTILINE)
    assert re.search(r"^with Audit\(models=\[...\]\) +[0-9]+ +-?[0-9]+ +[0-9.]+$", printed, re.MULTILINE)
    assert "a person of 20 events: exported in" in printed
    assert re.search(r"^SealedText, a key a row +[0-9]+ +[0-9.]+ +[0-9.]+ +[0-9.]+$", printed, re.MULTILINE)
    claims = [line.split()[1] for line in printed.splitlines() if line.startswith("claim ")]
    assert claims == [
        "audit-sealed-events-per-second",
        "audit-lag-p99-seconds",
        "audit-verified-events-per-second",
        "audit-proof-bytes-at-100-million",
    ]
