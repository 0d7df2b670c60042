"""Requests against a project under its `Service`."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx

from tests.integrations.django.conftest import Project
from workhorse import Policy
from workhorse.testing import service_client

__all__ = ["EVERYWHERE", "post", "serve"]

EVERYWHERE = [Policy("* /{path:path}", idempotent=True)]


def serve(project: Project, requests: Callable[[httpx.AsyncClient], Any], *policies: Policy) -> Any:
    """Run `requests(client)` against the project under a `Service`."""

    async def main() -> Any:
        async with service_client(project.service(*(policies or EVERYWHERE))) as client:
            return await requests(client)

    return asyncio.run(main())


def post(path: str, text: str = "a", key: str | None = None, **more: Any) -> Callable[[httpx.AsyncClient], Any]:
    """A POST, to be given a client."""

    async def send(client: httpx.AsyncClient) -> httpx.Response:
        headers = {} if key is None else {"idempotency-key": key}
        return await client.post(f"/{path}", json={"text": text, **more}, headers=headers)

    return send
