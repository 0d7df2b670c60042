"""Shows that a control is on before its cost is measured: one that was set up wrongly would be cheap.

Each probe is a request that the control must answer or mark. A control whose effect no reply shows (the log, the
metrics, a limit that nobody reaches, who the client is) has none.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from benchmarks.guard.traffic import BODY, ORIGIN, Answer, Traffic, UnexpectedAnswer, serve_one
from workhorse.asgi import ASGIApp, Headers, Scope

__all__ = ["PROBES", "check_controls", "with_header"]

TOO_LARGE: Final = b'"' + b"x" * (1024 * 1024) + b'"'


def with_header(headers: Headers, name: bytes, value: bytes | None) -> Headers:
    """The headers with another value for one of them, or without it."""
    others = [field for field in headers if field[0] != name]
    return others if value is None else [*others, (name, value)]


async def _refuses_hosts(app: ASGIApp, traffic: Traffic) -> bool:
    return (await serve_one(app, _changed(traffic.scope("GET", 0), b"host", b"evil.example"))).status in {400, 421}


async def _answers_origins(app: ASGIApp, traffic: Traffic) -> bool:
    answer = await serve_one(app, traffic.scope("GET", 0))
    return (b"access-control-allow-origin", ORIGIN.encode()) in _lower(answer)


async def _names_requests(app: ASGIApp, traffic: Traffic) -> bool:
    return b"x-request-id" in dict(_lower(await serve_one(app, traffic.scope("GET", 0))))


async def _adds_headers(app: ASGIApp, traffic: Traffic) -> bool:
    return b"x-content-type-options" in dict(_lower(await serve_one(app, traffic.scope("GET", 0))))


async def _refuses_forgeries(app: ASGIApp, traffic: Traffic) -> bool:
    """A page of another site sends the user's cookies, but knows no token."""
    scope = traffic.scope("POST", 0)
    for name, value in (
        (b"x-csrftoken", None),
        (b"origin", b"https://evil.example"),
        (b"sec-fetch-site", b"cross-site"),
    ):
        scope = _changed(scope, name, value)
    return (await serve_one(app, scope, BODY)).status == 403


async def _refuses_large_bodies(app: ASGIApp, traffic: Traffic) -> bool:
    scope = _changed(traffic.scope("POST", 0), b"content-length", b"%d" % len(TOO_LARGE))
    return (await serve_one(app, scope, TOO_LARGE)).status == 413


async def _refuses_tokens(app: ASGIApp, traffic: Traffic) -> bool:
    scope = traffic.scope("GET", 0)
    token = dict(scope["headers"])[b"authorization"]
    forged = token[:-8] + token[-8:].swapcase()  # another signature of the same length
    return (await serve_one(app, _changed(scope, b"authorization", forged))).status == 401


PROBES: Final[Mapping[str, Callable[[ASGIApp, Traffic], Awaitable[bool]]]] = {
    "host": _refuses_hosts,
    "cors": _answers_origins,
    "request-id": _names_requests,
    "headers": _adds_headers,
    "csrf": _refuses_forgeries,
    "body": _refuses_large_bodies,
    "identity": _refuses_tokens,
}


async def check_controls(app: ASGIApp, traffic: Traffic, controls: frozenset[str]) -> None:
    """Try each of `controls` that can be tried.

    Raises:
        UnexpectedAnswer: one has no effect.
    """
    for control in sorted(controls & PROBES.keys()):
        if not await PROBES[control](app, traffic):
            raise UnexpectedAnswer(f"its control {control!r} has no effect")


def _changed(scope: Scope, name: bytes, value: bytes | None) -> Scope:
    return {**scope, "headers": with_header(scope["headers"], name, value)}


def _lower(answer: Answer) -> Headers:
    return [(bytes(name).lower(), bytes(value)) for name, value in answer.headers]
