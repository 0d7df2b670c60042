"""Who calls, whether they may, and how often: the part of the guard that may have to wait for a store or an issuer.

A caller that is known already (its token was verified before) is known without waiting, and then all counters are
asked in one round trip. Otherwise the counters of the address come first, so that signatures cannot be tried without
end, and those of the caller after.
"""

from collections.abc import Sequence
from enum import Enum
from time import time
from typing import Final

from workhorse.asgi import Scope
from workhorse.contracts import CounterStore, Grant, ReadyCounters
from workhorse.errors import StoreUnavailable
from workhorse.guard.access import Access
from workhorse.guard.checks.proxies import certificate
from workhorse.guard.exchange import Exchange
from workhorse.guard.facts import Facts
from workhorse.guard.limits import check_grants, limit_headers, quotas_of
from workhorse.guard.plan import Plan
from workhorse.guard.problems import MethodNotServed, NothingHere
from workhorse.guard.routes import Limit, Route
from workhorse.guard.verdict import Refusal
from workhorse.identity.scheme import Credentials, Identity, NotAllowed, NotAuthenticated
from workhorse.principal import ANONYMOUS, Principal
from workhorse.state.memory.counters import MemoryCounters

__all__ = ["WAIT", "Permission", "Wait"]


class Wait(Enum):
    """What `Permission.at_once` says where it cannot say more."""

    WAIT = 1


WAIT: Final = Wait.WAIT


class Permission:
    """Asks the identity and the counters.

    Args:
        plan: the compiled settings.
        identity: says who calls; None: everybody may call everything.
        counters: where rates are counted; None: in this process alone.
        access: where trouble is reported.
    """

    def __init__(self, plan: Plan, *, identity: Identity | None, counters: CounterStore | None, access: Access) -> None:
        self._plan = plan
        self._identity = identity
        # Counts what is admitted while the store is away, too.
        self._local = MemoryCounters()
        self._counters: CounterStore = counters if counters is not None else self._local
        self._ready = self._counters if isinstance(self._counters, ReadyCounters) else None
        self._access = access

    def at_once(self, facts: Facts, exchange: Exchange, scope: Scope) -> Refusal | Wait | None:
        """Decide what can be decided without waiting, which is nearly always all; `WAIT`: ask `check`."""
        route = exchange.route
        if self._identity is not None:
            if route.policy is None:
                return self._nothing_here(facts)
            principal = self._identity.recall(self._credentials(facts), time())
            if principal is None:
                return WAIT
            refusal = self._let_in(self._identity, principal, exchange, scope)
            if refusal is not None:
                return refusal
        limits = route.limits
        if not limits:
            return None
        grants = None
        if self._ready is not None:
            grants = self._ready.take_at_once(quotas_of(limits, exchange.client, exchange.principal))
        if grants is None:
            return WAIT
        exchange.extra += limit_headers(limits, grants)
        return check_grants(limits, grants)

    async def check(self, facts: Facts, exchange: Exchange, scope: Scope) -> Refusal | None:
        """Decide what `at_once` could not."""
        route = exchange.route
        if self._identity is None:
            return await self._take(route.limits, exchange)
        identity, now = self._identity, time()
        credentials = self._credentials(facts)
        principal = identity.recall(credentials, now)
        limits = route.limits
        if principal is None:
            refusal = await self._take(route.limits_by_sender, exchange)
            if refusal is not None:
                return refusal
            limits = route.limits_by_caller
            verified = await self._verify(identity, credentials, now, route)
            if isinstance(verified, Refusal):
                return verified
            principal = verified
        return self._let_in(identity, principal, exchange, scope) or await self._take(limits, exchange)

    def _let_in(self, identity: Identity, principal: Principal, exchange: Exchange, scope: Scope) -> Refusal | None:
        """Note who calls, and refuse those who may not."""
        exchange.principal = principal
        exchange.private = exchange.private or principal is not ANONYMOUS
        scope["user"] = scope["auth"] = principal  # where Starlette's request.user and @requires look
        return check_permission(identity, exchange.route, principal)

    async def _verify(
        self, identity: Identity, credentials: Credentials, now: float, route: Route
    ) -> Principal | Refusal:
        try:
            return await identity.verify(credentials, now)
        except NotAuthenticated as problem:
            # A session that has ended must not lock its owner out of the page to log in again.
            return ANONYMOUS if route.public else Refusal(f"identity.{problem.reason}", problem)
        except StoreUnavailable as problem:
            return Refusal("identity.unavailable", problem)

    async def _take(self, limits: Sequence[Limit], exchange: Exchange) -> Refusal | None:
        if not limits:
            return None
        quotas = quotas_of(limits, exchange.client, exchange.principal)
        grants: Sequence[Grant]
        try:
            grants = await self._counters.take(quotas)
        except StoreUnavailable as problem:
            admitted = all(limit.rate.store_away == "admit" for limit in limits)
            self._access.store_away(problem, admitted=admitted)
            if not admitted:
                return Refusal("rate.store_away", problem)
            grants = await self._local.take(quotas)
        exchange.extra += limit_headers(limits, grants)
        return check_grants(limits, grants)

    def _credentials(self, facts: Facts) -> Credentials:
        get = facts.headers.get
        return Credentials(
            get(b"authorization"), get(b"cookie"), get(b"x-api-key"), certificate(self._plan.proxies.rules, facts)
        )

    def _nothing_here(self, facts: Facts) -> Refusal:
        """Refuse a request that no policy opens. All routes have one, so this is no route, or a way around one."""
        allowed = self._plan.routes.policies.methods(facts.route_path)
        return Refusal("identity.no_policy", MethodNotServed(allowed) if allowed else NothingHere())


def check_permission(identity: Identity, route: Route, principal: Principal) -> Refusal | None:
    """Refuse a caller that the route is not for.

    Threat: functions that are open to whom they are not meant for (CWE-862, CWE-863, CWE-285).
    Method: a route that is not public wants a known caller, and one that has all of the scopes.
    Assumes: which objects the caller may see is the app's to decide; it knows whose they are.
    Standard: RFC 6750, section 3.1; OWASP ASVS 5.0.0 V8.2.1 and V8.3.1; OWASP API5:2023.
    """
    if route.public:
        return None
    if not principal.is_authenticated:
        return Refusal("identity.missing", identity.challenge())
    if not principal.scopes.issuperset(route.scopes):
        return Refusal("identity.scope", NotAllowed(route.scopes))
    return None
