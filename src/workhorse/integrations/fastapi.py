"""FastAPI apps: as Starlette apps, and a request that fails validation gets a problem that names each fault.

FastAPI's own 422 repeats what the client sent (`input`) and how its models are built (`ctx`, `url`). Here the client
gets where and why, and a value that may be a secret is not sent around (OWASP ASVS 5.0.0 V16.2.5).

FastAPI's own pages of the API, `/docs` and `/redoc`, load scripts of other people's servers, which the guard's
Content-Security-Policy forbids, so that they would stay blank. Pages that need nothing but this service take their
place, under the same paths; their files are below `/docs/swagger-ui`. Routes of the app's own are left as they are.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Final

from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import swagger_ui_default_parameters
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from workhorse.errors import PROBLEM_PREFIX, Fault, Problem
from workhorse.integrations import api_docs, starlette

__all__ = ["InvalidRequest", "adopt", "invalid_request", "prefix_of"]

# Faults told of one request; a body of a million wrong rows must not make a reply of a million.
MAX_FAULTS = 100

# Of a file whose name holds its hash; not for caches that others share, because the route may ask who calls.
KEPT: Final = "private, max-age=31536000, immutable"


class InvalidRequest(Problem):
    """422: the request does not have the form that the route declares."""

    status = 422
    type = PROBLEM_PREFIX + "invalid-request"
    title = "The request is not valid"


def adopt(app: object, *, own_errors: bool = False) -> bool:
    """Add the handlers to `app` if it is a FastAPI app, and put our pages in the place of its own."""
    if not isinstance(app, FastAPI):
        return False
    docs = ApiDocs(app)
    # In place, since the first route that fits is taken.
    app.router.routes[:] = [ours for route in app.router.routes for ours in docs.in_place_of(route)]
    if own_errors:
        return starlette.adopt(app, own_errors=True)
    handlers = app.exception_handlers
    # FastAPI puts its own defaults there; only those give way.
    if handlers.get(HTTPException) is http_exception_handler:
        del handlers[HTTPException]
    if handlers.get(RequestValidationError) is request_validation_exception_handler:
        handlers[RequestValidationError] = invalid_request
    return starlette.adopt(app)


def prefix_of(app: object) -> str:
    """The `root_path` that a FastAPI app was given in the code."""
    return app.root_path if isinstance(app, FastAPI) else ""


def invalid_request(request: Request, error: Exception) -> Response:
    """Answer for a request that failed validation."""
    assert isinstance(error, RequestValidationError)
    details = error.errors()
    faults = [Fault(pointer(detail["loc"]), str(detail["msg"])) for detail in details[:MAX_FAULTS]]
    more = len(details) - len(faults)
    return starlette.problem_response(
        request, InvalidRequest(f"{more} further faults are not listed." if more else "", faults=faults)
    )


def pointer(location: Sequence[str | int]) -> str:
    """Where a fault is: a JSON Pointer (RFC 6901) into the body, or the parameter's place and name."""
    place, *rest = location
    if place != "body":
        return f"{place} {'.'.join(str(part) for part in rest)}".strip()
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in rest)


class ApiDocs:
    """The pages of an app's API. Their handlers are plain functions, which Starlette runs in a thread."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._docs_url: str | None = None

    def in_place_of(self, route: BaseRoute) -> Iterator[BaseRoute]:
        """The route itself, or what takes the place of one of FastAPI's own pages."""
        name = getattr(route, "name", "")
        if not isinstance(route, Route) or getattr(route.endpoint, "__module__", "") != "fastapi.applications":
            yield route
        elif name == "swagger_ui_html":
            self._docs_url = route.path
            yield Route(route.path, self.swagger_ui, name=name, include_in_schema=False)
            # Also where nothing is installed that it could serve, so that an app's routes and policies are the same.
            yield Route(self._files_url + "/{name}", self.file, name="swagger_ui_file", include_in_schema=False)
        elif name == "swagger_ui_redirect":
            yield Route(route.path, self.redirect, name=name, include_in_schema=False)
        elif name == "redoc_html":
            yield Route(route.path, self.redoc, name=name, include_in_schema=False)
        else:
            yield route

    def swagger_ui(self, request: Request) -> Response:
        """Answer with the page of the operations."""
        app, root = self._app, _root(request)
        title, openapi_url = f"{app.title} - Swagger UI", f"{root}{app.openapi_url}"
        if api_docs.SWAGGER_UI_SCRIPT not in self._files:
            return HTMLResponse(api_docs.missing_page(title=title, openapi_url=openapi_url))
        redirect = app.swagger_ui_oauth2_redirect_url
        page = api_docs.swagger_page(
            self._files,
            title=title,
            base=root + self._files_url,
            openapi_url=openapi_url,
            redirect_url=root + redirect if redirect else None,
            parameters=jsonable_encoder(swagger_ui_default_parameters | (app.swagger_ui_parameters or {})),
            oauth=jsonable_encoder(app.swagger_ui_init_oauth) or None,
        )
        policy = api_docs.page_policy(app.openapi())
        return HTMLResponse(page, headers={"content-security-policy": policy.decode()} if policy else None)

    def redirect(self, request: Request) -> Response:
        """Answer with the page that an OAuth 2 server sends the browser back to."""
        title = f"{self._app.title} - OAuth 2"
        return HTMLResponse(api_docs.redirect_page(self._files, title=title, base=_root(request) + self._files_url))

    def redoc(self, request: Request) -> Response:
        """Answer with the page in Redoc's place."""
        root = _root(request)
        page = api_docs.redoc_page(
            title=f"{self._app.title} - ReDoc",
            openapi_url=f"{root}{self._app.openapi_url}",
            docs_url=root + self._docs_url if self._docs_url is not None else None,
        )
        return HTMLResponse(page)

    def file(self, request: Request) -> Response:
        """Answer with one of the files."""
        found = self._files.served.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        return Response(found.body, headers={"content-type": found.content_type, "cache-control": KEPT})

    @property
    def _files_url(self) -> str:
        return (self._docs_url or "").rstrip("/") + "/swagger-ui"

    @cached_property
    def _files(self) -> api_docs.DocsFiles:
        return api_docs.load_files(api_docs.find_swagger_ui())


def _root(request: Request) -> str:
    """The prefix under which a server or proxy has mounted the app."""
    root: str = request.scope.get("root_path", "")
    return root.rstrip("/")
