"""The app that is served: a small reply, a body that is read, and a large reply."""

from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from workhorse import Service

__all__ = ["service"]

CHUNK = b"x" * 65_536
CHUNKS = 160

api = FastAPI()


@api.get("/")
async def small() -> dict[str, str]:
    return {"hello": "world"}


@api.post("/upload")
async def upload(request: Request) -> int:
    return len(await request.body())


@api.get("/large")
async def large() -> StreamingResponse:
    """Ten megabytes, made as they are taken."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(CHUNKS):
            yield CHUNK

    return StreamingResponse(chunks())


service = Service(api)
