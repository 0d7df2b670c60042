"""Litestar apps: their routes, for the policies to cover, and how their router reads a path."""

import re
from collections.abc import Callable, Iterator
from typing import Final

from litestar import Litestar
from litestar.routes import ASGIRoute, HTTPRoute

from workhorse.asgi import Scope
from workhorse.integrations.routes import AppRoute, source_of

__all__ = ["is_ours", "list_routes", "rerouter"]

_SLASHES: Final = re.compile("/+")
_RAW_SLASHES: Final = re.compile(b"/+")


def rerouter(app: object) -> Callable[[Scope], Scope] | None:
    """For a Litestar app `as_routed`, else None."""
    return as_routed if isinstance(app, Litestar) else None


def as_routed(scope: Scope) -> Scope:
    """The scope with the path that Litestar's router serves it by, so that the policy of that path is found.

    The router takes several slashes for one, and those at the end off. Where the server says that the app is mounted at
    a prefix, it goes by what follows the prefix's first place in the path, wherever that is.
    """
    path: str = scope["path"]
    raw: bytes = scope.get("raw_path") or path.encode()
    prefix: str = scope.get("root_path") or ""
    routed, raw_routed = path, raw
    if prefix and prefix in path:
        routed = f"{prefix}/{path.split(prefix, 1)[1]}"
        raw_routed = prefix.encode() + b"/" + raw.split(prefix.encode(), 1)[-1]
    routed = _SLASHES.sub("/", routed).rstrip("/") or "/"
    raw_routed = _RAW_SLASHES.sub(b"/", raw_routed).rstrip(b"/") or b"/"
    return scope if routed == path else {**scope, "path": routed, "raw_path": raw_routed}


def is_ours(app: object) -> bool:
    """Whether this is a Litestar app."""
    return isinstance(app, Litestar)


def list_routes(app: object) -> list[AppRoute] | None:
    """The routes of a Litestar app; None for an app of another kind."""
    return list(_walk(app)) if isinstance(app, Litestar) else None


def _walk(app: Litestar) -> Iterator[AppRoute]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                # OPTIONS is answered by Litestar itself, and HEAD goes with GET.
                for method in sorted(handler.http_methods - {"HEAD", "OPTIONS"}):
                    yield AppRoute(route.path, str(method), source_of(handler.fn), handler.handler_name)
        elif isinstance(route, ASGIRoute):
            path = route.path.rstrip("/") + "/{rest:path}" if route.route_handler.is_mount else route.path
            yield AppRoute(path, "*", source_of(route.route_handler.fn), route.route_handler.handler_name)
        else:
            handler_name = route.route_handler.handler_name
            yield AppRoute(route.path, "WEBSOCKET", source_of(route.route_handler.fn), handler_name)
