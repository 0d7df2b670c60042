"""Django projects: their routes, for the policies to cover.

A `path()` is a template as others are. So is a `re_path()` of plain text and parameters that take no slash, such as the
routers of Django's REST framework write. Any other may take anything: what it takes is not told apart from what lies
below the path that leads to it, so that a policy for it ends in `{rest:path}`.
"""

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from django import urls
from django.conf import settings
from django.core.handlers.base import BaseHandler
from django.urls import converters
from django.urls.resolvers import LocalePrefixPattern, RegexPattern, RoutePattern

from workhorse.integrations.routes import AppRoute, source_of

__all__ = ["is_ours", "list_routes", "prefix_of", "template_of", "templates_of"]

_PARAMETER: Final = re.compile(r"<(?:(?P<converter>[^<>:\s]+):)?(?P<name>[^<>\s]+)>")
# What of a regular expression is plain: text, and a group of characters that takes none of other groups.
_TEXT: Final = re.compile(r"[A-Za-z0-9_~:@!,;=&'%/-]+|\\[./~:@_-]")
_GROUP: Final = re.compile(
    r"\((?:\?P<(?P<name>\w+)>)?(?P<one>\\[dw]|\[(?:[^\]\\]|\\.)+\])(?:\+|\{[1-9]\d*(?:,\d*)?\})\)"
)
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
        elif isinstance(pattern, RegexPattern):
            yield from _of_regex(entry, prefix)
            continue
        else:
            yield from _of_view(prefix + "{rest:path}", getattr(entry, "callback", None), str(pattern))
            continue
        inner = getattr(entry, "url_patterns", None)
        if inner is not None:
            yield from _walk(inner, path)
        else:
            yield from _of_view(path, entry.callback, entry.name or "")


def templates_of(regex: str) -> list[str]:
    """A regular expression of `re_path()` as templates, such as `notes/{pk}/`; none where it is not as plain as that.

    One that ends in an optional slash is two.
    """
    text, parts = regex.removeprefix("^"), [""]
    bare = text.removesuffix("$").removesuffix("\\Z").removesuffix("\\z")
    rest = bare.removesuffix("/?")
    ends = ["/", ""] if rest != bare else [""]
    while rest:
        plain, group = _TEXT.match(rest), _GROUP.match(rest)
        if plain is not None:
            parts.append(plain[0].removeprefix("\\"))
            rest = rest[plain.end() :]
        elif group is not None and re.fullmatch(group["one"], "/") is None:
            parts.append(f"{{{group['name'] or f'argument{len(parts)}'}}}")
            rest = rest[group.end() :]
        else:
            return []
        if rest.startswith(("?", "*", "+", "{", "|")):  # what stands there may be missing, or come again
            return []
    return ["".join(parts) + end for end in ends]


def _of_regex(entry: Any, prefix: str) -> Iterator[AppRoute]:
    regex = str(entry.pattern)
    whole = regex.endswith(("$", "\\Z", "\\z"))
    # Django looks for an expression without `^` anywhere in the path, unless it ends a route by `$`.
    begins = regex.startswith("^") or not regex or regex.endswith("$")
    templates = templates_of(regex) if begins else []
    inner = getattr(entry, "url_patterns", None)
    if inner is not None and templates and not whole:
        for template in templates:
            yield from _walk(inner, prefix + template)
    elif inner is None and templates and whole:
        for template in templates:
            yield from _of_view(prefix + template, entry.callback, entry.name or "")
    else:
        yield from _of_view(prefix + "{rest:path}", getattr(entry, "callback", None), regex)


def _of_view(path: str, view: Any, name: str) -> Iterator[AppRoute]:
    """The routes of one view: the methods of a class that has them, else all."""
    operations = _operations_of(view)
    for operation in operations:
        for method in operation.methods:
            yield AppRoute(path, str(method).upper(), source_of(operation.view_func), name)
    if operations:
        return
    view_class = getattr(view, "view_class", None) or getattr(view, "cls", None)
    # A view set of the REST framework has its methods by the route.
    methods = [method.upper() for method in getattr(view, "actions", None) or () if method != "head"]
    if view_class is not None and not methods:
        served = getattr(view_class, "http_method_names", METHODS)
        methods = [method.upper() for method in METHODS if method in served and hasattr(view_class, method)]
    for method in methods or ["*"]:
        yield AppRoute(path, method, source_of(view_class or view), name)


def _operations_of(view: Any) -> Sequence[Any]:
    """What django-ninja serves by this view, which is a function around an object of its own."""
    function = inspect.unwrap(view) if callable(view) else view
    if not str(getattr(function, "__module__", "")).startswith("ninja."):
        return ()
    cells: Sequence[Any] = getattr(function, "__closure__", None) or ()
    found: list[Any] = [getattr(cell.cell_contents, "operations", None) for cell in cells]
    return next((one for one in found if one), ())
