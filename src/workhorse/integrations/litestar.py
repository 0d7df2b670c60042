"""Litestar apps: their routes, for the policies to cover."""

from collections.abc import Iterator

from litestar import Litestar
from litestar.routes import ASGIRoute, HTTPRoute

from workhorse.integrations.routes import AppRoute, source_of

__all__ = ["drops_slash", "list_routes"]


def drops_slash(app: object) -> bool:
    """Whether this is a Litestar app: its router takes slashes at the end of a path off."""
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
