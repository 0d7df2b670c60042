"""The pages: HTML without one script or style in it, whose data stand in attributes.

Whatever an app says of itself, its title included, is escaped: it may have come from a settings file.
"""

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final, cast

from workhorse.guard.headers import PAGE_POLICY
from workhorse.integrations.api_docs.files import (
    FAVICON,
    REDIRECT_SCRIPT,
    START_SCRIPT,
    SWAGGER_UI_SCRIPT,
    SWAGGER_UI_STYLE,
    DocsFiles,
)

__all__ = ["missing_page", "page_policy", "redirect_page", "redoc_page", "swagger_page"]

# Other origins that one page may call. A description that names more is not for one page to try out.
MAX_ORIGINS: Final = 20
_ORIGIN: Final = re.compile(
    r"(?P<origin>https?://(?:[a-z0-9](?:[a-z0-9.-]{0,252})|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?)(?:[/?#]|$)",
    re.IGNORECASE,
)
_TOKEN_URLS: Final = ("tokenUrl", "refreshUrl")


def swagger_page(
    docs_files: DocsFiles,
    *,
    title: str,
    base: str,
    openapi_url: str,
    redirect_url: str | None = None,
    parameters: Mapping[str, object] | None = None,
    oauth: Mapping[str, object] | None = None,
) -> str:
    """The page with the operations.

    Args:
        docs_files: the files, those of Swagger UI among them.
        title: of the page.
        base: the path below which the files are served, without a slash at its end.
        openapi_url: path of the API's description.
        redirect_url: path of the page that an OAuth 2 server sends the browser back to; None: there is none.
        parameters: Swagger UI's own settings, as far as they are JSON. They win over `openapi_url`.
        oauth: for Swagger UI's `initOAuth`; None: not called.
    """
    settings = json.dumps(
        {"parameters": {"url": openapi_url, **(parameters or {})}, "oauth": oauth, "redirect": redirect_url}
    )
    return _html(
        title,
        head=f"""<link rel="icon" href="{_url(docs_files, base, FAVICON)}">
<link rel="stylesheet" href="{_url(docs_files, base, SWAGGER_UI_STYLE)}">""",
        body=f"""<div id="swagger-ui"></div>
<noscript>This page needs JavaScript. The description of the API: {_link(openapi_url)}</noscript>
<script src="{_url(docs_files, base, SWAGGER_UI_SCRIPT)}"></script>
<script src="{_url(docs_files, base, START_SCRIPT)}" data-settings="{escape(settings)}"></script>""",
    )


def redirect_page(docs_files: DocsFiles, *, title: str, base: str) -> str:
    """The page that an OAuth 2 server sends the browser back to. It hands the answer to the page that asked."""
    return _html(
        title,
        body=f"""<p id="outcome">Signing in …</p>
<script src="{_url(docs_files, base, REDIRECT_SCRIPT)}"></script>""",
    )


def missing_page(*, title: str, openapi_url: str) -> str:
    """The page where the files of Swagger UI are not installed."""
    return _html(
        title,
        body=f"""<h1>{escape(title)}</h1>
<p>The operations cannot be shown, because the files of Swagger UI are not installed where this service runs:</p>
<pre>pip install "workhorse[docs]"</pre>
<p>They are not loaded from another server instead, because a page of this service runs no scripts but its own.</p>
<p>The description of the API is at {_link(openapi_url)}.</p>""",
    )


def redoc_page(*, title: str, openapi_url: str, docs_url: str | None) -> str:
    """The page in Redoc's place."""
    elsewhere = f"<p>The operations are at {_link(docs_url)}.</p>\n" if docs_url is not None else ""
    return _html(
        title,
        body=f"""<h1>{escape(title)}</h1>
<p>Redoc is not served here: it comes from another server, and writes its styles into the page, and a page of this
service takes neither. To be rid of this page, give the app <code>redoc_url=None</code>.</p>
{elsewhere}<p>The description of the API is at {_link(openapi_url)}.</p>""",
    )


def page_policy(schema: Mapping[str, Any]) -> bytes | None:
    """The Content-Security-Policy of the page for this API; None: the one that every page gets will do.

    Operations that are tried out, and the requests for tokens, go where the API's own description says. Origins that it
    names are added to what the page may call, and to nothing else. A server whose address has variables in it is not.

    Args:
        schema: the OpenAPI document.
    """
    found: dict[str, None] = {}
    for url in _called(schema):
        match = _ORIGIN.match(url)
        if match is not None and len(found) < MAX_ORIGINS:
            found[match["origin"].lower()] = None
    if not found:
        return None
    return PAGE_POLICY + b"; connect-src 'self' " + " ".join(found).encode()


def _called(schema: Mapping[str, Any]) -> Iterator[str]:
    """The addresses that the page calls (OpenAPI 3.1.1, sections 4.8.5, 4.8.9, 4.8.27 and 4.8.29)."""
    yield from _servers(schema)
    for item in _objects(schema.get("paths")):
        yield from _servers(item)
        for operation in _objects(item):
            yield from _servers(operation)
    for scheme in _objects(_object(schema.get("components")).get("securitySchemes")):
        yield from _strings(scheme, ("openIdConnectUrl",))
        for flow in _objects(scheme.get("flows")):
            yield from _strings(flow, _TOKEN_URLS)


def _servers(place: Mapping[str, Any]) -> Iterator[str]:
    servers = place.get("servers")
    for server in cast("list[object]", servers) if isinstance(servers, list) else ():
        yield from _strings(_object(server), ("url",))


def _objects(value: object) -> Iterator[Mapping[str, Any]]:
    """The members of an object that are objects themselves."""
    for member in _object(value).values():
        if isinstance(member, Mapping):
            yield cast("Mapping[str, Any]", member)


def _object(value: object) -> Mapping[str, Any]:
    """The value if it is an object, else an empty one: the description may have been written by hand."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _strings(place: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        if isinstance(place.get(name), str):
            yield place[name]


def _url(docs_files: DocsFiles, base: str, plain: str) -> str:
    return escape(f"{base}/{docs_files.names[plain]}")


def _link(path: str) -> str:
    return f'<a href="{escape(path)}">{escape(path)}</a>'


def _html(title: str, *, body: str, head: str = "") -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
{head}
</head>
<body>
{body}
</body>
</html>
"""
