"""The route x control map: what guards each route, as data that an auditor reads and a check compares.

The map is made from the same compiled plan that the guard serves with, never from what somebody wrote about it. Kept
in the repository, it shows in review what a change does to the controls, and `lost` finds what a change took away.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from workhorse.guard.routes import Route, RouteTable
from workhorse.policy import Policy
from workhorse.rate import Rate
from workhorse.settings import GuardSettings

__all__ = [
    "EVERYWHERE",
    "NO_CONTROLS",
    "POLICY_CONTROLS",
    "POLICY_NO_CONTROLS",
    "Caller",
    "ControlMap",
    "Loss",
    "RouteControls",
    "Value",
    "control_map",
    "lost",
]

Caller = Literal["anyone", "public", "known", "nobody"]
"""Who may call: anyone, because no identity is configured; anyone, because the policy says public; known callers; or
nobody, because an identity is configured and no policy opens the route."""

_OPENNESS: Final = {"nobody": 0, "known": 1, "public": 2, "anyone": 2}
_IDEMPOTENCY: Final = {False: "none", True: "optional", "required": "required"}
# Settings of the guard, by what takes a control away: growing, shrinking, being turned on, being turned off, a name
# more in a list, any other value, or one of a lower rank.
_GROWING: Final = (
    "max_target_bytes",
    "max_header_bytes",
    "max_headers",
    "max_body_bytes",
    "max_json_depth",
    "max_json_values",
    "max_parts",
    "max_pending_bytes",
    "max_concurrent_requests",
    "min_concurrent_requests",
    "deadline_seconds",
    "body_pause_seconds",
    "rate_ahead_seconds",
    "cors_max_age_seconds",
    "max_message_bytes",
    "messages_per_second",
)
_SHRINKING: Final = ("hsts_seconds", "body_bytes_per_second")
_SWITCHES: Final = (
    "insecure_any_host",
    "insecure_cross_site",
    "insecure_cors_any_origin",
    "insecure_needless_escapes",
    "cors_credentials",
)
_PROTECTIONS: Final = ("hsts_subdomains", "csrf_token_keys")
_LISTS: Final = (
    "allowed_hosts",
    "trusted_proxies",
    "methods",
    "cors_origins",
    "cors_methods",
    "cors_headers",
    "cors_expose_headers",
    "csrf_origins",
    "allowed_features",
)
# Whom to believe: one header instead of another is another proxy's word, or everybody's.
_FIXED: Final = ("proxy_header", "client_certificate_header")
_RANKS: Final[Mapping[str, Mapping[str, int]]] = {
    "https": {"off": 0, "auto": 1, "redirect": 2, "refuse": 3},
    "embedder_policy": {"": 0, "credentialless": 1, "require-corp": 2},
    # Each process counts for itself in memory; what the others are differs in speed alone.
    "rate_store": {"memory": 0, "auto": 1, "cache": 1, "database": 1},
}

NO_CONTROLS: Final = frozenset({"https_port", "hsts_preload", "report_to"})
"""Settings of the guard that are no controls: nothing is more open for another value."""
POLICY_CONTROLS: Final = frozenset(
    {
        "audit",
        "scope",
        "public",
        "rate",
        "idempotent",
        "isolation",
        "read_only",
        "priority",
        "deadline",
        "max_body_bytes",
        "content_types",
        "encoded_slashes",
        "double_escapes",
        "insecure_cross_site",
    }
)
"""What of a policy is in the map."""
POLICY_NO_CONTROLS: Final = frozenset({"pattern", "batched", "fast", "cancel_on_disconnect"})
"""What of a policy says which requests it is for, or how fast they are served."""
_AUDITS: Final = ("none", "recorded", "closed")
_ISOLATIONS: Final = ("", "read committed", "repeatable read", "serializable")


Value: TypeAlias = int | float | bool | str | list[str]

EVERYWHERE: Final = (
    *_SWITCHES,
    *_PROTECTIONS,
    *_LISTS,
    *_GROWING,
    *_SHRINKING,
    *_FIXED,
    *_RANKS,
)
"""The settings of the guard that are in the map."""


class RouteControls(msgspec.Struct, frozen=True, omit_defaults=False):
    """What guards one route."""

    route: str
    """Method and path template."""
    handler: str
    """Where it is written, and its name."""
    policy: str
    """The policy's pattern; empty where none matches."""
    caller: Caller
    scopes: list[str]
    rates: list[str]
    idempotency: str
    max_body_bytes: int
    content_types: list[str]
    """Empty: any."""
    deadline_seconds: float
    priority: str
    cross_site: bool
    """Whether other sites' pages may call it with the user's cookies."""
    # A file from before these were in it has none of them.
    encoded_slashes: bool = False
    double_escapes: bool = False
    """Whether `%2F` is taken inside of a path segment."""
    read_only: bool = False
    """Whether its transactions cannot write."""
    isolation: str = ""
    """What its transactions see of others' commits; empty: as the database has it."""
    audit: str = "none"
    """What is recorded of its requests: none, recorded, or closed, where nothing is answered without its record."""
    audit_subject: str = ""
    """Whom its records are about."""
    audit_models: list[str] = []
    """Whose rows are recorded before and after."""


class ControlMap(msgspec.Struct, frozen=True):
    """What guards all routes, and what guards each."""

    version: int
    everywhere: dict[str, Value]
    """The guard's settings that are controls."""
    routes: list[RouteControls]


class Loss(NamedTuple):
    """A control that a route had and has no more, or has less of."""

    where: str
    control: str
    was: str
    now: str


def control_map(
    routes: Iterable[tuple[str, str, str]], table: RouteTable, settings: GuardSettings, *, identity: bool
) -> ControlMap:
    """Make the map.

    Args:
        routes: per route its method and path as shown, its handler as shown, and a method and path to find the policy
            by, such as ("GET /accounts/{id}", "bank/app.py:49 read_account", "GET /accounts/~").
        table: the compiled policies.
        settings: the guard's settings.
        identity: whether callers are told apart.
    """
    rows: list[RouteControls] = []
    for shown, handler, sample in routes:
        method, _, path = sample.partition(" ")
        route = table.find(method, path)
        rows.append(
            RouteControls(
                route=shown,
                handler=handler,
                policy=route.pattern,
                caller=_caller(route, identity=identity),
                scopes=sorted(route.scopes),
                rates=[_rate(limit.rate) for limit in route.limits],
                idempotency=_IDEMPOTENCY[route.policy.idempotent if route.policy is not None else False],
                max_body_bytes=route.max_body_bytes,
                content_types=sorted(kind.decode() for kind in route.content_types or ()),
                deadline_seconds=route.deadline_seconds,
                priority=route.priority,
                cross_site=route.cross_site or settings.insecure_cross_site,
                encoded_slashes=route.encoded_slashes,
                double_escapes=route.double_escapes,
                read_only=route.policy is not None and route.policy.read_only,
                isolation=(route.policy.isolation or "") if route.policy is not None else "",
                audit=_audit(route.policy),
                audit_subject=_audit_subject(route.policy),
                audit_models=_audit_models(route.policy),
            )
        )
    everywhere = {name: _plain(name, getattr(settings, name)) for name in EVERYWHERE}
    return ControlMap(1, everywhere, rows)


def lost(was: ControlMap, now: ControlMap) -> list[Loss]:
    """What `now` lacks of what `was` had. A route that is gone has lost nothing; a new one had nothing."""
    losses = list(_lost_everywhere(was.everywhere, now.everywhere))
    before = {route.route: route for route in was.routes}
    for route in now.routes:
        old = before.get(route.route)
        if old is not None:
            losses += [Loss(route.route, *loss) for loss in _lost_of(old, route)]
    return losses


def _lost_of(was: RouteControls, now: RouteControls) -> Iterable[tuple[str, str, str]]:
    if _OPENNESS[now.caller] > _OPENNESS[was.caller]:
        yield "caller", was.caller, now.caller
    if missing := sorted(set(was.scopes) - set(now.scopes)):
        yield "scope", " ".join(missing), " ".join(now.scopes) or "none"
    if missing := [rate for rate in was.rates if rate not in now.rates and not _as_strict(rate, now.rates)]:
        yield "rate", ", ".join(missing), ", ".join(now.rates) or "none"
    order = list(_IDEMPOTENCY.values())
    if order.index(now.idempotency) < order.index(was.idempotency):
        yield "idempotency", was.idempotency, now.idempotency
    if now.max_body_bytes > was.max_body_bytes:
        yield "max_body_bytes", str(was.max_body_bytes), str(now.max_body_bytes)
    if now.deadline_seconds > was.deadline_seconds:
        yield "deadline_seconds", f"{was.deadline_seconds:g}", f"{now.deadline_seconds:g}"
    if was.content_types and (not now.content_types or set(now.content_types) - set(was.content_types)):
        yield "content_types", " ".join(was.content_types), " ".join(now.content_types) or "any"
    if now.cross_site and not was.cross_site:
        yield "cross_site", "refused", "taken"
    if now.encoded_slashes and not was.encoded_slashes:
        yield "encoded_slashes", "refused", "taken"
    if now.double_escapes and not was.double_escapes:
        yield "double_escapes", "refused", "taken"
    if was.read_only and not now.read_only:
        yield "read_only", "on", "off"
    if _ISOLATIONS.index(now.isolation) < _ISOLATIONS.index(was.isolation):
        yield "isolation", was.isolation, now.isolation or "the database's default"

    yield from _lost_records(was, now)


def _lost_records(was: RouteControls, now: RouteControls) -> Iterable[tuple[str, str, str]]:
    if _AUDITS.index(now.audit) < _AUDITS.index(was.audit):
        yield "audit", was.audit, now.audit
    if missing := sorted(set(was.audit_models) - set(now.audit_models)):
        yield "audit_models", " ".join(missing), " ".join(now.audit_models) or "none"


def _lost_everywhere(was: Mapping[str, Value], now: Mapping[str, Value]) -> Iterable[Loss]:
    for name, before in was.items():
        after = now.get(name, before)
        if after != before and _is_loss(name, before, after):
            yield Loss("everywhere", name, _shown(before), _shown(after))


def _is_loss(name: str, before: Value, after: Value) -> bool:
    """Whether another value of a setting takes a control away."""
    if name in _SWITCHES:
        return bool(after)
    if name in _PROTECTIONS:
        return bool(before)
    if isinstance(before, list) and isinstance(after, list):
        return bool(set(after) - set(before))
    if isinstance(before, int | float) and isinstance(after, int | float):
        return (name in _GROWING and after > before) or (name in _SHRINKING and after < before)
    ranks = _RANKS.get(name)
    if ranks is not None:
        return ranks[str(after)] < ranks[str(before)]
    return name in _FIXED


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        return f"{value:.15g}"
    return (" ".join(value) if isinstance(value, list) else value) or "none"


def _plain(name: str, value: float | str | tuple[str, ...]) -> Value:
    """A setting's value as JSON has it. Secrets are only told to be there."""
    if name == "csrf_token_keys":
        return bool(value)
    return list(value) if isinstance(value, tuple) else value


def _caller(route: Route, *, identity: bool) -> Caller:
    if not identity:
        return "anyone"
    if route.policy is None:
        return "nobody"
    return "public" if route.public else "known"


def _audit(policy: Policy | None) -> str:
    audit = None if policy is None else policy.audited
    return "none" if audit is None else "closed" if audit.fail_closed else "recorded"


def _audit_subject(policy: Policy | None) -> str:
    if policy is None or policy.audited is None:
        return ""
    return policy.audited.subject or policy.path


def _audit_models(policy: Policy | None) -> list[str]:
    audit = None if policy is None else policy.audited
    return [] if audit is None else sorted(model.__name__ for model in audit.models)


def _rate(rate: Rate) -> str:
    return f"{rate.limit} per {rate.per}, burst {rate.capacity}, {rate.store_away} while uncounted"


def _as_strict(rate: str, others: Sequence[str]) -> bool:
    """Whether another rate of the same kind lets no more through."""
    limit, per, burst, away = _parts(rate)
    for other in others:
        limit_2, per_2, burst_2, away_2 = _parts(other)
        if (
            per_2 == per
            and limit_2.interval_us >= limit.interval_us
            and burst_2 <= burst
            and away_2 in {away, "refuse"}
        ):
            return True
    return False


def _parts(rate: str) -> tuple[Rate, str, int, str]:
    what, burst, away = rate.split(", ")
    limit, _, per = what.partition(" per ")
    return Rate(limit), per, int(burst.removeprefix("burst ")), away.partition(" ")[0]
