"""What Workhorse does for the frameworks that it knows. Each is imported only if the app has imported it already."""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Final

from workhorse.asgi import Scope
from workhorse.errors import SettingsError
from workhorse.integrations.routes import AppRoute, fits, sorted_routes
from workhorse.policy import Policy

if TYPE_CHECKING:
    # Whoever gives facts has loaded it; the front door stays light.
    from workhorse.integrations.openapi import Facts

__all__ = [
    "AppRoute",
    "adopt",
    "describe",
    "innermost",
    "is_known",
    "is_routed",
    "list_routes",
    "prefix_of",
    "routed_by",
    "routes_in_order",
]

# Middleware around an app is looked through so far.
MAX_DEPTH: Final = 20
# The framework's module, and ours that adopts its apps; the more special one first.
_ADOPTERS: Final = (
    ("fastapi", "workhorse.integrations.fastapi"),
    ("starlette", "workhorse.integrations.starlette"),
    ("litestar", "workhorse.integrations.litestar"),
    ("quart", "workhorse.integrations.quart"),
    ("falcon.asgi", "workhorse.integrations.falcon"),
    ("blacksheep", "workhorse.integrations.blacksheep"),
)
_LISTERS: Final = (
    ("starlette", "workhorse.integrations.starlette"),
    ("litestar", "workhorse.integrations.litestar"),
    ("quart", "workhorse.integrations.quart"),
    ("falcon.asgi", "workhorse.integrations.falcon"),
    ("blacksheep", "workhorse.integrations.blacksheep"),
    ("django.core.handlers.base", "workhorse.integrations.django"),
)
# Those whose router takes other paths than are written, and those that prefer literal segments, as policies do.
_REROUTERS: Final = ("litestar", "falcon.asgi", "blacksheep")
_LITERAL_FIRST: Final = frozenset({"litestar", "quart", "falcon.asgi"})


def adopt(app: object, *, own_errors: bool = False) -> bool:
    """Make `app` answer its errors as RFC 9457 problem documents, where it has no handlers of its own for them.

    So are the apps that are mounted in it. Returns whether a framework was recognised. An app of any other kind is left
    as it is, and served all the same.

    Args:
        app: the app.
        own_errors: leave the replies that its framework makes of errors as they are. What the app raises as `Problem`
            is answered all the same, and what nobody expected reaches the unit and the guard.
    """
    if "starlette" in sys.modules:
        for _, inner in import_module("workhorse.integrations.starlette").mounted_apps(app):
            _adopt(inner, own_errors=own_errors)
    return _adopt(app, own_errors=own_errors)


def _adopt(app: object, *, own_errors: bool) -> bool:
    return any(
        framework in sys.modules and import_module(adopter).adopt(app, own_errors=own_errors)
        for framework, adopter in _ADOPTERS
    )


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


def innermost(app: object) -> object:
    """The app of a framework that we know, inside of middleware that holds the next one as `app`; else `app` itself."""
    inner = app
    for _ in range(MAX_DEPTH):
        if inner is None:
            break
        if is_known(inner):
            return inner
        inner = getattr(inner, "app", None)
    return app


def is_known(app: object) -> bool:
    """Whether the app is of a framework whose routes can be listed."""
    return any(framework in sys.modules and import_module(module).is_ours(app) for framework, module in _LISTERS)


def prefix_of(app: object) -> str:
    """The prefix that the app itself takes off each path, wherever the server says that it is mounted; or nothing.

    Raises:
        SettingsError: the prefix is none that a router could take off, or that of an app which is mounted in another.
    """
    prefix = ""
    if "fastapi" in sys.modules:
        fastapi = import_module("workhorse.integrations.fastapi")
        prefix = fastapi.prefix_of(app)
        for path, inner in import_module("workhorse.integrations.starlette").mounted_apps(app):
            if fastapi.prefix_of(inner):
                raise SettingsError(
                    f"the app that is mounted at {path!r} has a root_path of its own, by which it would find other"
                    " routes than the policies are asked for; take it out: its mount tells it where it is"
                )
    if not prefix and "django.core.handlers.base" in sys.modules:
        prefix = import_module("workhorse.integrations.django").prefix_of(app)
    if prefix and (prefix.endswith("/") or not prefix.startswith("/")):
        raise SettingsError(
            f"the app takes the prefix {prefix!r} off its paths; write it with a slash in front and none at the end"
        )
    return prefix


def routed_by(app: object) -> Callable[[Scope], Scope] | None:
    """What gives a request's scope the path that the router of `app` goes by; None: it goes by the path as it came.

    For a `Guard` around an app, so that the guard sees what the router will see: `Guard(app, routed=routed_by(app))`.
    A `Service` does it by itself.

    Raises:
        SettingsError: see `prefix_of`.
    """
    for framework, module in _LISTERS:
        if framework in _REROUTERS and framework in sys.modules:
            found: Callable[[Scope], Scope] | None = import_module(module).rerouter(app)
            if found is not None:
                return found
    prefix = prefix_of(app)
    return (lambda scope: {**scope, "root_path": prefix}) if prefix else None


def routes_in_order(app: object) -> tuple[list[AppRoute], bool] | None:
    """The routes of `app` in its own order, and whether the first one that fits is taken; None as for `list_routes`."""
    for framework, module in _LISTERS:
        if framework in sys.modules:
            routes: list[AppRoute] | None = import_module(module).list_routes(app)
            if routes is not None:
                return routes, framework not in _LITERAL_FIRST
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
