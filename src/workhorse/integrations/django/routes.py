"""Django projects: their routes, for the policies to cover.

A `path()` is a template as others are. A `re_path()` may take anything: what it takes is not told apart from what lies
below the path that leads to it, so that a policy for it ends in `{rest:path}`.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from django import urls
from django.conf import settings
from django.core.handlers.base import BaseHandler
from django.urls import converters
from django.urls.resolvers import LocalePrefixPattern, RoutePattern

from workhorse.integrations.routes import AppRoute, source_of

__all__ = ["is_ours", "list_routes", "prefix_of", "template_of"]

_PARAMETER: Final = re.compile(r"<(?:(?P<converter>[^<>:\s]+):)?(?P<name>[^<>\s]+)>")
# Django has no types.
DJANGO_URLS: Final[Any] = urls
DJANGO_SETTINGS: Final[Any] = settings
DJANGO_CONVERTERS: Final[Any] = converters
METHODS: Final = ("get", "post", "put", "patch", "delete")


def is_ours(app: object) -> bool:
    """Whether this is a Django project's app."""
    return isinstance(app, BaseHandler)


def list_routes(app: object) -> list[AppRoute] | None:
    """The routes of a Django project, given its ASGI or WSGI app; None for an app of another kind."""
    if not isinstance(app, BaseHandler):
        return None
    resolver: Any = DJANGO_URLS.get_resolver()
    return list(_walk(resolver.url_patterns, "/"))


def prefix_of(app: object) -> str:
    """The FORCE_SCRIPT_NAME of a Django project, given its app."""
    return str(DJANGO_SETTINGS.FORCE_SCRIPT_NAME or "") if isinstance(app, BaseHandler) else ""


def template_of(route: str) -> str:
    """The route of a `path()`, such as `accounts/<int:pk>/`, as a template: `accounts/{pk}/`."""
    return _PARAMETER.sub(
        lambda match: f"{{{match['name']}:path}}" if _takes_slashes(match["converter"]) else f"{{{match['name']}}}",
        route,
    )


def _takes_slashes(converter: str | None) -> bool:
    known: Any = DJANGO_CONVERTERS.get_converters().get(converter or "str")
    return known is not None and re.fullmatch(known.regex, "a/b") is not None


def _walk(patterns: Iterable[Any], prefix: str) -> Iterator[AppRoute]:
    for entry in patterns:
        pattern = entry.pattern
        if isinstance(pattern, RoutePattern):
            path = prefix + template_of(str(pattern))
        elif isinstance(pattern, LocalePrefixPattern):
            path = prefix + "{language}/"
            if not pattern.prefix_default_language:
                # The default language has none, so the same views are there without it, too.
                yield from _walk(getattr(entry, "url_patterns", ()), prefix)
        else:
            literal = prefix + "{rest:path}"
            yield from _of_view(literal, getattr(entry, "callback", None), str(entry.name or pattern))
            continue
        inner = getattr(entry, "url_patterns", None)
        if inner is not None:
            yield from _walk(inner, path)
        else:
            yield from _of_view(path, entry.callback, entry.name or "")


def _of_view(path: str, view: Any, name: str) -> Iterator[AppRoute]:
    """The routes of one view: the methods of a class that has them, else all."""
    view_class = getattr(view, "view_class", None) or getattr(view, "cls", None)
    methods = [method.upper() for method in METHODS if hasattr(view_class, method)] if view_class is not None else []
    for method in methods or ["*"]:
        yield AppRoute(path, method, source_of(view_class or view), name)
