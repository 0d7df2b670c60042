"""The same two routes without any layer: nothing at all, Starlette, FastAPI."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from benchmarks.guard.stacks.built import Built
from workhorse.asgi import Receive, Scope, Send

__all__ = ["ITEM", "Item", "Receipt", "fastapi_app", "null", "starlette_app"]

ITEM = {"id": 42, "name": "Blue chair", "price": 129.5, "tags": ["a", "b"], "q": "abc"}


class Item(BaseModel):
    """What is posted."""

    name: str
    price: float
    qty: int
    tags: list[str] = []


class Receipt(BaseModel):
    """What is answered."""

    id: int
    name: str
    total: float
    tags: list[str]


async def null(scope: Scope, receive: Receive, send: Send) -> None:
    """The least that an app can do: read the body, and send two messages."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["method"] == "POST":
        await receive()
    headers = [(b"content-length", b"2"), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


def starlette_app() -> Built:
    """Starlette."""

    async def get_item(request: Request) -> JSONResponse:
        return JSONResponse({**ITEM, "id": int(request.path_params["item_id"]), "q": request.query_params.get("q")})

    async def post_item(request: Request) -> JSONResponse:
        item = await request.json()
        total = item["price"] * item["qty"]
        return JSONResponse({"id": 1, "name": item["name"], "total": total, "tags": item["tags"]})

    routes = [Route("/items/{item_id:int}", get_item), Route("/items", post_item, methods=["POST"])]
    return Built(app=Starlette(routes=routes))


def fastapi_app(dependencies: Sequence[Any] = ()) -> FastAPI:
    """FastAPI, with what each request is to ask for."""
    app = FastAPI(dependencies=dependencies)

    @app.get("/items/{item_id}")
    async def get_item(item_id: int, q: str | None = None) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        return {**ITEM, "id": item_id, "q": q}

    @app.post("/items")
    async def post_item(item: Item) -> Receipt:  # pyright: ignore[reportUnusedFunction]
        return Receipt(id=1, name=item.name, total=item.price * item.qty, tags=item.tags)

    return app
