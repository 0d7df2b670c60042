"""Litestar, bare and with what it brings along against the same threats. Compression is off, as it is by default."""

import importlib
from collections.abc import Collection
from typing import Any, Final

import msgspec

from benchmarks.guard.credentials import SECRET
from benchmarks.guard.stacks.bare import ITEM
from benchmarks.guard.stacks.built import Built
from benchmarks.guard.traffic import HOST, ORIGIN

__all__ = ["BUILT_INS", "litestar_app"]

BUILT_INS: Final = {"host": "host", "cors": "cors", "csrf": "csrf", "rate": "rate", "prometheus": "metrics"}
"""By built-in, the control that it is."""


class Item(msgspec.Struct):
    """What is posted: as a Struct, which Litestar reads fastest."""

    name: str
    price: float
    qty: int
    tags: list[str] = []


class Receipt(msgspec.Struct):
    """What is answered."""

    id: int
    name: str
    total: float
    tags: list[str]


def litestar_app(parts: Collection[str]) -> Built:
    """Litestar with some of its `BUILT_INS`."""
    litestar = importlib.import_module("litestar")

    async def get_item(item_id: int, q: str | None = None) -> dict[str, Any]:
        return {**ITEM, "id": item_id, "q": q}

    async def post_item(data: Item) -> Receipt:
        return Receipt(1, data.name, data.price * data.qty, data.tags)

    handlers = [
        litestar.get("/items/{item_id:int}")(get_item),
        litestar.post("/items", status_code=200)(post_item),
    ]
    options: dict[str, Any] = {}
    middleware: list[Any] = []
    csrf = ""
    if "host" in parts:
        hosts = importlib.import_module("litestar.config.allowed_hosts").AllowedHostsConfig
        options["allowed_hosts"] = hosts(allowed_hosts=[HOST])
    if "cors" in parts:
        cors = importlib.import_module("litestar.config.cors").CORSConfig
        options["cors_config"] = cors(allow_origins=[ORIGIN], allow_credentials=True)
    if "csrf" in parts:
        options["csrf_config"] = importlib.import_module("litestar.config.csrf").CSRFConfig(secret=SECRET)
        csrf = importlib.import_module("litestar.middleware.csrf").generate_csrf_token(SECRET)
    if "rate" in parts:
        rate = importlib.import_module("litestar.middleware.rate_limit").RateLimitConfig
        middleware.append(rate(rate_limit=("minute", 100_000_000)).middleware)
    if "prometheus" in parts:
        middleware.append(importlib.import_module("litestar.plugins.prometheus").PrometheusConfig().middleware)
    app = litestar.Litestar(handlers, middleware=middleware, openapi_config=None, **options)
    return Built(app=app, csrf=csrf, controls=frozenset(BUILT_INS[part] for part in parts))
