"""Django under ASGI, bare and with the middlewares for security that a new project of it has; its views are async."""

import importlib
import json
import logging
import secrets
from collections.abc import Collection
from typing import Any, Final

from benchmarks.guard.stacks.bare import ITEM
from benchmarks.guard.stacks.built import Built
from benchmarks.guard.traffic import HOST, ORIGIN

__all__ = ["BUILT_INS", "django_app"]

BUILT_INS: Final = {
    "security": ("django.middleware.security.SecurityMiddleware", "headers"),
    "common": ("django.middleware.common.CommonMiddleware", "host"),
    "csrf": ("django.middleware.csrf.CsrfViewMiddleware", "csrf"),
    "frame": ("django.middleware.clickjacking.XFrameOptionsMiddleware", ""),
}
"""By built-in: its class, and the control that it is. From the outermost to the innermost."""


def django_app(parts: Collection[str]) -> Built:
    """Django with some of its `BUILT_INS`. It has one configuration per process, so this works once."""
    conf, http, urls = (importlib.import_module(f"django.{name}") for name in ("conf", "http", "urls"))

    async def get_item(request: Any, item_id: int) -> Any:
        return http.JsonResponse({**ITEM, "id": item_id, "q": request.GET.get("q")})

    async def post_item(request: Any) -> Any:
        item = json.loads(request.body)
        total = item["price"] * item["qty"]
        return http.JsonResponse({"id": 1, "name": item["name"], "total": total, "tags": item["tags"]})

    conf.settings.configure(
        SECRET_KEY=secrets.token_hex(32),
        ALLOWED_HOSTS=[HOST],
        CSRF_TRUSTED_ORIGINS=[ORIGIN],
        SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
        SECURE_HSTS_SECONDS=63_072_000,
        MIDDLEWARE=[name for part, (name, _) in BUILT_INS.items() if part in parts],
        ROOT_URLCONF=(urls.path("items/<int:item_id>", get_item), urls.path("items", post_item)),
        LOGGING_CONFIG=None,
        DEFAULT_CHARSET="utf-8",
    )
    importlib.import_module("django").setup()
    # What it refuses it would log with a traceback; it is not measured with a log, so neither is it prepared with one.
    logging.getLogger("django").propagate = False
    logging.getLogger("django").addHandler(logging.NullHandler())
    controls = frozenset(BUILT_INS[part][1] for part in parts) - {""}
    app = importlib.import_module("django.core.asgi").get_asgi_application()
    return Built(app=app, csrf=secrets.token_hex(16), controls=controls)  # 32 letters and digits
