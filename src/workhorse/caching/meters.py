"""Brings what caches and leases have counted into the metrics, once a second.

They count by plain additions to objects of one process, because a look into a cache has to cost nothing. The metrics of
all processes are read from shared slots; so a copy goes there now and then, and a last one at the end.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final

from workhorse.caching.caches import Caches
from workhorse.caching.leases import Leases
from workhorse.telemetry.metrics import Counter, Registry

__all__ = ["PUBLISH_SECONDS", "publishing"]

PUBLISH_SECONDS: Final = 1.0

Reading = tuple[Counter, Callable[[], int]]


@asynccontextmanager
async def publishing(caches: Caches | None, leases: Leases | None, registry: Registry) -> AsyncGenerator[None]:
    """Publish their counts during the block."""
    readings = [
        *(() if caches is None else readings_of_caches(caches, registry)),
        *(() if leases is None else readings_of_leases(leases, registry)),
    ]
    held = None
    if leases is not None:
        held = registry.gauge("workhorse_leases_held", "Blocks that run with a lease.").labels()
    # Caches may outlive a service, and what they counted for the former one was published then.
    published = [read() for _, read in readings]

    def publish() -> None:
        for place, (counter, read) in enumerate(readings):
            now = read()
            counter.add(max(0, now - published[place]))
            published[place] = now
        if held is not None and leases is not None:
            held.set(leases.counts.held)

    async def again_and_again() -> None:
        while True:
            await asyncio.sleep(PUBLISH_SECONDS)
            publish()

    task = asyncio.create_task(again_and_again(), name="metrics of caches and leases")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        publish()


def readings_of_caches(caches: Caches, registry: Registry) -> list[Reading]:
    """What is counted of caches."""
    counts = caches.counts
    looked = registry.counter("workhorse_cache_lookups_total", "Looks into caches, by what was found.", ("outcome",))
    made = registry.counter("workhorse_cache_made_total", "Values that were made for caches.", ("why",))
    spared = registry.counter(
        "workhorse_cache_spared_total", "Makings that were spared because one was under way already.", ("where",)
    )
    unkept = registry.counter("workhorse_cache_unkept_total", "Values that were made and could not be kept.")
    away = registry.counter("workhorse_cache_away_total", "Calls to which the store of caches did not answer.")
    return [
        (looked.labels("hit"), lambda: counts.hits),
        (looked.labels("stale"), lambda: counts.stale),
        (looked.labels("miss"), lambda: counts.misses),
        (made.labels("missing"), lambda: counts.made - counts.early),
        (made.labels("early"), lambda: counts.early),
        (spared.labels("process"), lambda: counts.shared),
        (spared.labels("store"), lambda: counts.waited),
        (unkept.labels(), lambda: counts.unkept),
        (away.labels(), lambda: counts.away),
    ]


def readings_of_leases(leases: Leases, registry: Registry) -> list[Reading]:
    """What is counted of leases."""
    counts = leases.counts
    total = registry.counter("workhorse_leases_total", "Leases, by what became of the wish for one.", ("outcome",))
    return [
        (total.labels("acquired"), lambda: counts.acquired),
        (total.labels("refused"), lambda: counts.refused),
        (total.labels("lost"), lambda: counts.lost),
    ]
