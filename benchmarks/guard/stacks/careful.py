"""FastAPI with what a careful team puts around it: the known middlewares, one per control, all of them pure ASGI.

None derives from BaseHTTPMiddleware, which alone would cost more than most of them. What cannot be pure ASGI (the
token, the rate limit) is a dependency, as its documentation has it. Each can be put on alone.
"""

import importlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from fastapi import Depends, FastAPI, HTTPException, Request

from benchmarks.guard.credentials import SECRET
from benchmarks.guard.stacks.bare import fastapi_app
from benchmarks.guard.stacks.built import Built
from benchmarks.guard.traffic import HOST, ORIGIN, Credentials
from workhorse.asgi import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CAREFUL", "EMPTY", "MAX_BODY_BYTES", "PARTS", "careful_app"]

MAX_BODY_BYTES: Final = 1024 * 1024
TRUSTED: Final = "127.0.0.1"

PARTS: Final[Mapping[str, tuple[str, str]]] = {
    "limiter": ("rate", "fastapi-limiter"),
    "jwt": ("identity", "PyJWT, RS256"),
    "body-limit": ("body", "content-size-limit-asgi"),
    "slowapi": ("rate", "slowapi"),
    "csrf": ("csrf", "starlette-csrf"),
    "session": ("", "Starlette SessionMiddleware"),
    "secure": ("headers", "secure"),
    "cors": ("cors", "Starlette CORSMiddleware"),
    "host": ("host", "Starlette TrustedHostMiddleware"),
    "proxy": ("proxy", "uvicorn ProxyHeadersMiddleware"),
    "prometheus": ("metrics", "prometheus-fastapi-instrumentator"),
    "structlog": ("log", "structlog access line (pure ASGI)"),
    "correlation": ("request-id", "asgi-correlation-id"),
    "empty": ("", "an empty ASGI layer"),
    "empty-http": ("", 'an empty @app.middleware("http")'),
}
"""By part: the control that it is, and what it is called. From the innermost to the outermost."""

EMPTY: Final = frozenset({"empty", "empty-http"})
CAREFUL: Final = frozenset(PARTS) - EMPTY - {"slowapi", "session"}
"""The stack. Of the two rate limiters it has the cheaper; there is no session, as the guard has none here."""


def careful_app(credentials: Credentials, parts: Collection[str]) -> Built:
    """FastAPI with `parts` around it.

    The libraries are looked up by name, so that one that is not there makes only those fail that need it.
    """
    dependencies = [DEPENDENCIES[part](credentials) for part in PARTS if part in parts and part in DEPENDENCIES]
    app = fastapi_app(dependencies)
    for part in PARTS:
        if part in parts and part in LAYERS:
            LAYERS[part](app)
    controls = frozenset(PARTS[part][0] for part in parts) - {""}
    return Built(app=app, controls=controls)


def _limiter(_: Credentials) -> Any:
    depends, pyrate = importlib.import_module("fastapi_limiter.depends"), importlib.import_module("pyrate_limiter")
    rate = pyrate.Rate(100_000_000, pyrate.Duration.MINUTE)
    return Depends(depends.RateLimiter(limiter=pyrate.Limiter(rate)))


def _jwt(credentials: Credentials) -> Any:
    jwt = importlib.import_module("jwt")
    serialization = importlib.import_module("cryptography.hazmat.primitives.serialization")
    # Parsed once, as PyJWKClient does.
    key = serialization.load_pem_public_key(credentials.public_key.encode())

    async def claims(request: Request) -> dict[str, Any]:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise HTTPException(401)
        try:
            decoded: dict[str, Any] = jwt.decode(
                token, key, algorithms=["RS256"], audience=credentials.audience, issuer=credentials.issuer
            )
        except jwt.PyJWTError as error:
            raise HTTPException(401) from error
        return decoded

    return Depends(claims)


def _body_limit(app: FastAPI) -> None:
    middleware = importlib.import_module("content_size_limit_asgi").ContentSizeLimitMiddleware

    class TooLarge(HTTPException):
        def __init__(self, detail: str) -> None:
            super().__init__(413, detail)

    app.add_middleware(middleware, max_content_size=MAX_BODY_BYTES, exception_cls=TooLarge)


def _slowapi(app: FastAPI) -> None:
    slowapi, util = importlib.import_module("slowapi"), importlib.import_module("slowapi.util")
    app.state.limiter = slowapi.Limiter(key_func=util.get_remote_address, default_limits=["100000000/minute"])
    app.add_middleware(importlib.import_module("slowapi.middleware").SlowAPIASGIMiddleware)


def _csrf(app: FastAPI) -> None:
    app.add_middleware(importlib.import_module("starlette_csrf").CSRFMiddleware, secret=SECRET)


def _session(app: FastAPI) -> None:
    app.add_middleware(importlib.import_module("starlette.middleware.sessions").SessionMiddleware, secret_key=SECRET)


def _secure(app: FastAPI) -> None:
    middleware = importlib.import_module("secure.middleware").SecureASGIMiddleware
    app.add_middleware(middleware, secure=importlib.import_module("secure").Secure.with_default_headers())


def _cors(app: FastAPI) -> None:
    app.add_middleware(
        importlib.import_module("starlette.middleware.cors").CORSMiddleware,
        allow_origins=[ORIGIN],
        allow_credentials=True,
        allow_methods=["*"],
        allow_headers=["*"],
    )


def _host(app: FastAPI) -> None:
    app.add_middleware(
        importlib.import_module("starlette.middleware.trustedhost").TrustedHostMiddleware, allowed_hosts=[HOST]
    )


def _proxy(app: FastAPI) -> None:
    app.add_middleware(
        importlib.import_module("uvicorn.middleware.proxy_headers").ProxyHeadersMiddleware, trusted_hosts=[TRUSTED]
    )


def _prometheus(app: FastAPI) -> None:
    importlib.import_module("prometheus_fastapi_instrumentator").Instrumentator().instrument(app)


def _structlog(app: FastAPI) -> None:
    structlog, orjson = importlib.import_module("structlog"), importlib.import_module("orjson")
    structlog.configure(
        cache_logger_on_first_use=True,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        # Open as long as the process lives, as a log is.
        logger_factory=structlog.BytesLoggerFactory(file=os.fdopen(os.open(os.devnull, os.O_WRONLY), "ab")),
    )
    app.add_middleware(AccessLines, contextvars=structlog.contextvars, log=structlog.get_logger("access"))


class AccessLines:
    """One line per request by structlog, as its documentation advises, without BaseHTTPMiddleware."""

    def __init__(self, app: ASGIApp, *, contextvars: Any, log: Any) -> None:
        self._app = app
        self._contextvars = contextvars
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve and log."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._contextvars.clear_contextvars()
        self._contextvars.bind_contextvars(request_id=uuid.uuid4().hex)
        started, status = time.perf_counter(), 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            self._log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                client=scope["client"][0],
                milliseconds=(time.perf_counter() - started) * 1000,
            )


def _correlation(app: FastAPI) -> None:
    app.add_middleware(importlib.import_module("asgi_correlation_id").CorrelationIdMiddleware)


class Empty:
    """A layer that does nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on."""
        await self._app(scope, receive, send)


def _empty_http(app: FastAPI) -> None:
    @app.middleware("http")
    async def nothing(request: Request, call_next: Any) -> Any:  # pyright: ignore[reportUnusedFunction]
        return await call_next(request)


DEPENDENCIES: Final[Mapping[str, Callable[[Credentials], Any]]] = {"limiter": _limiter, "jwt": _jwt}
LAYERS: Final[Mapping[str, Callable[[FastAPI], None]]] = {
    "body-limit": _body_limit,
    "slowapi": _slowapi,
    "csrf": _csrf,
    "session": _session,
    "secure": _secure,
    "cors": _cors,
    "host": _host,
    "proxy": _proxy,
    "prometheus": _prometheus,
    "structlog": _structlog,
    "correlation": _correlation,
    "empty": lambda app: app.add_middleware(Empty),
    "empty-http": _empty_http,
}
