"""A process that takes a lease again and again, and notes its tokens; and one that holds it until it is killed."""

import asyncio
import json
import sys
import time
from typing import Any

from tests.state.cache_kit import opened_leases
from tests.state.counters_kit import Place
from workhorse.caching import Leases
from workhorse.contracts import LeaseHeld


async def contend(backend: str, place: Place, name: str, seconds: float) -> list[dict[str, Any]]:
    """Take the lease as often as possible; note each token with the times between which it was surely held."""
    held: list[dict[str, Any]] = []
    async with opened_leases(backend, place) as store:
        leases = Leases(store)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            try:
                async with leases.hold(name, ttl=60, wait=0.2) as lease:
                    began = time.monotonic()
                    await asyncio.sleep(0.005)
                    held.append({"token": lease.token, "began": began, "ended": time.monotonic()})
            except LeaseHeld:
                pass
    return held


async def hold_until_killed(backend: str, place: Place, name: str, ttl: float) -> None:
    async with opened_leases(backend, place) as store, Leases(store).hold(name, ttl=ttl) as lease:
        sys.stdout.write(f"{lease.token}\n")
        sys.stdout.flush()
        await asyncio.sleep(60)


if __name__ == "__main__":
    what, backend, place, name, seconds = json.loads(sys.argv[1])
    if what == "contend":
        sys.stdout.write(json.dumps(asyncio.run(contend(backend, Place(*place), name, seconds))))
    else:
        asyncio.run(hold_until_killed(backend, Place(*place), name, seconds))
