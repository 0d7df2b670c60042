"""The benchmark of measures runs, and holds what it has timed against the events."""

import asyncio
import re

from benchmarks.analytics.measuring import measures


def test_a_short_year_is_counted_asked_for_and_seen(database_url: str) -> None:
    printed = asyncio.run(measures(database_url, 3_000, sightings=3))
    assert re.search(r"^counted, sketches +[0-9,]+ events/s$", printed, re.MULTILINE)
    assert re.search(r"^from commit to the message of a live stream +[0-9.]+ +[0-9.]+$", printed, re.MULTILINE)
    assert [line.split()[1] for line in printed.splitlines() if line.startswith("claim ")] == [
        "measures.year_by_day_ms",
        "measures.seen_p99_ms",
    ]
