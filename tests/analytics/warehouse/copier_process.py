"""Copies until it is killed, or until nothing is left: `DATABASE ENGINE WHEN`.

WHEN is how many pages are put into the engine before the process kills itself, just after the engine has committed and
before the journal's database has (0: just before both; -1: never). It says when a page begins.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.analytics.warehouse.kit import opened
from workhorse.feeds import FeedReader, Recorded


async def main(database_url: str, engine_url: str, when: int) -> None:
    """Copy in pages of seven events."""
    pages = 0
    async with opened(database_url, engine_url) as (database, warehouse):
        (feed,) = warehouse.feeds

        async def copy(work: Any, events: Sequence[Recorded]) -> None:
            nonlocal pages
            print("page", flush=True)
            if when == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            await feed.handler(work, events)
            pages += 1
            if pages == when:
                os.kill(os.getpid(), signal.SIGKILL)

        await FeedReader(database, replace(feed, handler=copy, at_most=7)).drain()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
