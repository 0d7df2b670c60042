"""The benchmark of audited requests runs, and finds the records that it should."""

import asyncio
from pathlib import Path

import pytest

from benchmarks.audit.requests import measure


@pytest.mark.slow
def test_each_variant_is_timed(tmp_path: Path) -> None:
    lines = asyncio.run(measure(rounds=1, requests=2, folder=tmp_path)).splitlines()
    assert [line.split()[:2] for line in lines[3:]] == [
        [kind, name] for kind in ("write", "read", "refusal") for name in ("plain", "audited", "closed")
    ]
