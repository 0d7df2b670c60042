"""A store that cannot keep a promise is refused at the start, and not found out later."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from tests.asgi_client import StartFailed, running
from workhorse import Service
from workhorse.settings import load_settings


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"cache": {"url": "redis+cluster://127.0.0.1:1"}}, "names a Redis cluster, in which limits, sessions and"),
        (
            {
                "cache": {"url": "redis+cluster://127.0.0.1:1", "lease_store": "cache"},
                "guard": {"rate_store": "database"},
                "identity": {"session_store": "database"},
            },
            "sessions and leases cannot be kept",
        ),
        ({"server": {"workers": 2}, "identity": {"session_store": "memory"}}, "identity.session_store is memory"),
        ({"server": {"workers": 2}, "cache": {"store": "memory"}}, "cache.store is memory"),
        ({"server": {"workers": 2}, "cache": {"lease_store": "memory"}}, "cache.lease_store is memory"),
    ],
    ids=[
        "limits and sessions in a cluster",
        "leases in a cluster",
        "sessions in memory",
        "cached values in memory",
        "leases in memory",
    ],
)
def test_a_store_that_would_break_its_promise_stops_the_start(
    more: dict[str, Any], complaint: str, url: str, tmp_path: Path
) -> None:
    settings = load_settings(tmp_path, **{"database": {"url": url}, "log": {"access": False}, **more})

    async def main() -> None:
        async with running(Service(FastAPI(openapi_url=None), settings=settings)):
            pass

    with pytest.raises(StartFailed, match=complaint):
        asyncio.run(main())
