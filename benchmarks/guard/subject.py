"""Our guard with everything on, as a service in production has it: the one file to change when the guard grows.

`build` makes the whole; `LESS` has for each control what takes it out, so that the difference is what it costs.
"""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.guard.stacks.built import Built
from benchmarks.guard.traffic import HOST, ORIGIN, Credentials
from workhorse.asgi import ASGIApp
from workhorse.guard.layer import Guard
from workhorse.guard.plan import compile_plan
from workhorse.identity import Bearer, Identity, Issuer
from workhorse.policy import Policy
from workhorse.settings import GuardSettings
from workhorse.state.memory.counters import MemoryCounters
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Registry

__all__ = ["CONTROLS", "LESS", "WHOLE", "GuardChoice", "build", "has_compiled_build"]

CONTROLS: Final = frozenset(
    {"host", "proxy", "cors", "request-id", "log", "headers", "csrf", "rate", "metrics", "body", "identity"}
)
"""What the guard does of what the careful stack does. The stack is compared without what is not here."""

RATE: Final = "100000000/minute"
# Under callgrind a second is some fifty requests, so the log's thread would wake up far more often per request than in
# a busy process: it then writes more rarely.
COUNTED_INTERVAL_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardChoice:
    """A guard, as far as it differs from the whole."""

    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    rates: Sequence[str] = (RATE,)
    access_lines: bool = True
    identity: bool = True
    without: frozenset[str] = frozenset()
    """The controls that it lacks."""


WHOLE: Final = GuardChoice()
LESS: Final[Mapping[str, GuardChoice]] = {
    "proxies": GuardChoice(settings={"trusted_proxies": ()}, without=frozenset({"proxy"})),
    "hosts": GuardChoice(settings={"allowed_hosts": (), "insecure_any_host": True}, without=frozenset({"host"})),
    "CORS": GuardChoice(
        settings={"cors_origins": (), "cors_credentials": False, "csrf_origins": (ORIGIN,)}, without=frozenset({"cors"})
    ),
    "CSRF": GuardChoice(settings={"insecure_cross_site": True}, without=frozenset({"csrf"})),
    "identity": GuardChoice(identity=False, without=frozenset({"identity"})),
    "rate limit": GuardChoice(rates=(), without=frozenset({"rate"})),
    "access lines": GuardChoice(access_lines=False, without=frozenset({"log"})),
}
"""By control: the guard without it. What no setting turns off is not here."""


def build(app: ASGIApp, credentials: Credentials, choice: GuardChoice, *, serving: bool = False) -> Built:
    """Put the guard around `app`.

    Args:
        app: the app.
        credentials: what the tokens of the requests were signed with.
        choice: what differs from the whole.
        serving: whether time passes as under a server, so that the log writes as it does in production.
    """
    settings: dict[str, Any] = {
        "allowed_hosts": (HOST,),
        "trusted_proxies": ("127.0.0.0/8",),
        "cors_origins": (ORIGIN,),
        "cors_credentials": True,
        **choice.settings,
    }
    scopes = {"GET /items/{item_id}": "items:read", "POST /items": "items:write"}
    policies = [
        Policy(route, scope=scope if choice.identity else (), rate=choice.rates) for route, scope in scopes.items()
    ]
    issuer = Issuer(credentials.issuer, keys=credentials.key_set.encode())
    identity = Identity(Bearer(issuer, audience=credentials.audience)) if choice.identity else None
    sink = os.open(os.devnull, os.O_WRONLY)  # open as long as the process lives, as a log is
    log = Log(sink) if serving else Log(sink, interval_seconds=COUNTED_INTERVAL_SECONDS)
    log.start()
    guard = Guard(
        app,
        compile_plan(GuardSettings(**settings), policies),
        identity=identity,
        log=log,
        access_lines=choice.access_lines,
        metrics=Registry(None),
        counters=MemoryCounters(),
    )
    return Built(
        app=guard,
        controls=CONTROLS - choice.without,
        remembers_tokens=choice.identity,
        settle_seconds=0.0 if serving else 2 * COUNTED_INTERVAL_SECONDS,
        flush=log.close,
    )


def has_compiled_build() -> bool:
    """Whether the guard is there as machine code, beside its source."""
    found = importlib.util.find_spec("workhorse.guard.facts")
    return found is not None and found.origin is not None and not found.origin.endswith(".py")
