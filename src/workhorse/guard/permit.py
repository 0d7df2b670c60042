"""What can be told at once of who calls, whether they may and how often: nearly all, as tokens and loans are known.

It waits for nothing, so it is compiled; `permission` asks for the rest.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from time import time
from typing import Final, TypeAlias

from workhorse.asgi import Scope
from workhorse.contracts import ReadyCounters
from workhorse.guard.checks.proxies import certificate
from workhorse.guard.exchange import Exchange
from workhorse.guard.facts import Facts
from workhorse.guard.limits import check_grants, key_of, limit_headers, quotas_of
from workhorse.guard.plan import Plan
from workhorse.guard.problems import MethodNotServed, NothingHere
from workhorse.guard.routes import Limit, Route
from workhorse.guard.tokens import check_token
from workhorse.guard.verdict import Refusal
from workhorse.identity.scheme import Credentials, Identity, NotAllowed
from workhorse.principal import ANONYMOUS, Kind, Principal

__all__ = ["WAIT", "Permit", "TakeCell", "Wait", "check_permission", "let_in"]

TakeCell: TypeAlias = Callable[[str, int, int], tuple[int, int] | None]
"""See `permission.CellCounters`."""


class Wait(Enum):
    """What `Permit.ask` says where it cannot say more."""

    WAIT = 1


WAIT: Final = Wait.WAIT


class Permit:
    """Asks what is known already.

    Args:
        plan: the compiled settings.
        identity: says who calls; None: everybody may call everything.
        ready: where rates are counted, if it can often answer at once.
        take_cell: the same for one cell of one counter, if it has something cheaper for that.
    """

    def __init__(
        self, plan: Plan, *, identity: Identity | None, ready: ReadyCounters | None, take_cell: TakeCell | None
    ) -> None:
        self._plan = plan
        self._identity = identity
        self._ready = ready
        self._take_cell = take_cell
        self._proxy_rules = plan.proxies.rules
        self._certificates = bool(self._proxy_rules.certificate_header)
        self._tokens = plan.csrf_token is not None

    def ask(self, facts: Facts, exchange: Exchange, scope: Scope) -> Refusal | Wait | None:
        """Decide; `WAIT`: ask `Permission.check`."""
        route = exchange.route
        identity = self._identity
        if identity is not None:
            if route.policy is None:
                return self._nothing_here(facts)
            principal = identity.recall(self.credentials(facts), time())
            if principal is None:
                return WAIT
            refusal = let_in(identity, principal, exchange, scope)
            if refusal is not None:
                return refusal
        if self._tokens:
            refusal = self.check_token(facts, exchange)
            if refusal is not None:
                return refusal
        limits = route.limits
        return self._take(limits, exchange) if limits else None

    def _take(self, limits: Sequence[Limit], exchange: Exchange) -> Refusal | Wait | None:
        if self._take_cell is not None and len(limits) == 1:
            limit = limits[0]
            key = key_of(limit, exchange.client, exchange.principal)
            taken = self._take_cell(key, limit.interval_us, limit.capacity)
            if taken is not None:
                exchange.extra.append(limit.policy_field)
                exchange.extra.append((b"ratelimit", limit.left % (taken[0], -(-taken[1] // 1_000_000))))
                return None
        grants = None
        if self._ready is not None:
            grants = self._ready.take_at_once(quotas_of(limits, exchange.client, exchange.principal))
        if grants is None:
            return WAIT
        exchange.extra += limit_headers(limits, grants)
        return check_grants(limits, grants)

    def check_token(self, facts: Facts, exchange: Exchange) -> Refusal | None:
        """Refuse a request that needs a CSRF token and shows none, once it is known who calls."""
        return check_token(
            self._plan,
            facts,
            exchange.principal,
            cross_site=exchange.route.cross_site,
            body_type=exchange.body_type,
        )

    def credentials(self, facts: Facts) -> Credentials:
        """What the request may be known by."""
        get = facts.headers.get
        passed_on = certificate(self._proxy_rules, facts) if self._certificates else None
        return Credentials(get(b"authorization"), get(b"cookie"), get(b"x-api-key"), passed_on)

    def _nothing_here(self, facts: Facts) -> Refusal:
        """Refuse a request that no policy opens. All routes have one, so this is no route, or a way around one."""
        allowed = self._plan.routes.policies.methods(facts.route_path)
        return Refusal("identity.no_policy", MethodNotServed(allowed) if allowed else NothingHere())


def let_in(identity: Identity, principal: Principal, exchange: Exchange, scope: Scope) -> Refusal | None:
    """Note who calls, and refuse those who may not."""
    exchange.principal = principal
    if principal is not ANONYMOUS:
        exchange.private = True
    scope["user"] = scope["auth"] = principal  # where Starlette's request.user and @requires look
    return check_permission(identity, exchange.route, principal)


def check_permission(identity: Identity, route: Route, principal: Principal) -> Refusal | None:
    """Refuse a caller that the route is not for.

    Threat: functions that are open to whom they are not meant for (CWE-862, CWE-863, CWE-285).
    Method: a route that is not public wants a known caller, and one that has all of the scopes.
    Assumes: which objects the caller may see is the app's to decide; it knows whose they are.
    Standard: RFC 6750, section 3.1; OWASP ASVS 5.0.0 V8.2.1 and V8.3.1; OWASP API5:2023.
    """
    if route.public:
        return None
    if principal.kind is Kind.ANONYMOUS:
        return Refusal("identity.missing", identity.challenge())
    if not route.scopes <= principal.scopes:
        return Refusal("identity.scope", NotAllowed(route.scopes))
    return None
