"""What Workhorse does for the frameworks that it knows. Each is imported only if the app has imported it already."""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Final

from workhorse.asgi import Scope
from workhorse.integrations.routes import AppRoute, fits, sorted_routes
from workhorse.policy import Policy

if TYPE_CHECKING:
    # Whoever gives facts has loaded it; the front door stays light.
    from workhorse.integrations.openapi import Facts

__all__ = ["AppRoute", "adopt", "describe", "is_routed", "list_routes", "prefix_of", "rerouter", "routes_in_order"]

# The framework's module, and ours that adopts its apps; the more special one first.
_ADOPTERS: Final = (
    ("fastapi", "workhorse.integrations.fastapi"),
    ("starlette", "workhorse.integrations.starlette"),
)
_LISTERS: Final = (
    ("starlette", "workhorse.integrations.starlette"),
    ("litestar", "workhorse.integrations.litestar"),
    ("django.core.handlers.base", "workhorse.integrations.django"),
)


def adopt(app: object) -> bool:
    """Make `app` answer its errors as RFC 9457 problem documents, where it has no handlers of its own for them.

    So are the apps that are mounted in it. Returns whether a framework was recognised. An app of any other kind is left
    as it is, and served all the same.
    """
    if "starlette" in sys.modules:
        for _, inner in import_module("workhorse.integrations.starlette").mounted_apps(app):
            _adopt(inner)
    return _adopt(app)


def _adopt(app: object) -> bool:
    return any(framework in sys.modules and import_module(adopter).adopt(app) for framework, adopter in _ADOPTERS)


def describe(app: object, facts: "Facts") -> bool:
    """Make the OpenAPI documents of `app`, and of the apps that are mounted in it, tell what the service does.

    May be repeated: the last one counts. Returns whether there is any document that can be completed, which is so for
    FastAPI. For others, `workhorse.integrations.openapi.complete` is at hand.
    """
    if "fastapi" not in sys.modules:
        return False
    starlette = import_module("workhorse.integrations.starlette")
    publisher = import_module("workhorse.integrations.fastapi_document")
    found = [publisher.describe(inner, facts, prefix) for prefix, inner in (("", app), *starlette.mounted_apps(app))]
    return any(found)


def prefix_of(app: object) -> str:
    """The prefix that the app itself takes off each path, wherever the server says that it is mounted; or nothing."""
    prefix = ""
    if "fastapi" in sys.modules:
        prefix = import_module("workhorse.integrations.fastapi").prefix_of(app)
    if not prefix and "django.core.handlers.base" in sys.modules:
        prefix = import_module("workhorse.integrations.django").prefix_of(app)
    return prefix.rstrip("/")


def rerouter(app: object) -> Callable[[Scope], Scope] | None:
    """What gives a request the path that the app's router goes by; None: the router goes by the path as it came."""
    if "litestar" not in sys.modules:
        return None
    found: Callable[[Scope], Scope] | None = import_module("workhorse.integrations.litestar").rerouter(app)
    return found


def routes_in_order(app: object) -> tuple[list[AppRoute], bool] | None:
    """The routes of `app` in its own order, and whether the first one that fits is taken; None as for `list_routes`."""
    for framework, module in _LISTERS:
        if framework in sys.modules:
            routes: list[AppRoute] | None = import_module(module).list_routes(app)
            if routes is not None:
                # Litestar's router prefers literal segments, as the table of policies does.
                return routes, framework != "litestar"
    return None


def list_routes(app: object) -> list[AppRoute] | None:
    """The routes of `app`, sorted; None for an app of a framework that we do not know, whose routes cannot be asked."""
    for framework, module in _LISTERS:
        if framework in sys.modules:
            routes: list[AppRoute] | None = import_module(module).list_routes(app)
            if routes is not None:
                return sorted_routes(routes)
    return None


def is_routed(app: object, policy: Policy) -> bool:
    """Whether `app` has a route that requests of `policy` may be for.

    True as well for an app of a framework that we do not know, whose routes cannot be asked.
    """
    if "starlette" in sys.modules:
        starlette = import_module("workhorse.integrations.starlette")
        if starlette.is_routed(app, policy.method, policy.path):
            return True
    routes = list_routes(app)
    return routes is None or any(fits(policy, route) for route in routes)
