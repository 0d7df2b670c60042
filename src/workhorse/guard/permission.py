"""Who calls, whether they may, and how often: the part of the guard that may have to wait for a store or an issuer.

A caller that is known already (its token was verified before) is known without waiting, and then all counters are
asked in one round trip. Otherwise the counters of the address come first, so that signatures cannot be tried without
end, and the others after, in one take: a stranger with made-up credentials uses up nothing but its own, and a caller
over its own limit nothing of what all share.
"""

from collections.abc import Sequence
from time import time
from typing import Protocol, runtime_checkable

from workhorse.asgi import Scope
from workhorse.contracts import CounterStore, Grant, ReadyCounters
from workhorse.errors import StoreUnavailable
from workhorse.guard.access import Access
from workhorse.guard.exchange import Exchange
from workhorse.guard.facts import Facts
from workhorse.guard.limits import check_grants, limit_headers, quotas_of
from workhorse.guard.permit import Permit, check_permission, let_in
from workhorse.guard.plan import Plan
from workhorse.guard.routes import Limit, Route
from workhorse.guard.verdict import Refusal
from workhorse.identity.scheme import Credentials, Identity, NotAuthenticated
from workhorse.principal import ANONYMOUS, Principal
from workhorse.state.memory.counters import MemoryCounters

__all__ = ["CellCounters", "Permission"]


@runtime_checkable
class CellCounters(Protocol):
    """Counters that can often take one cell from one counter without waiting: what nearly all requests need."""

    def take_cell(self, key: str, interval_us: int, capacity: int) -> tuple[int, int] | None:
        """What remains, and the microseconds until all is back; None, and nothing is taken: ask `CounterStore.take`."""
        ...


class Permission:
    """Asks the identity and the counters.

    Args:
        plan: the compiled settings.
        identity: says who calls; None: everybody may call everything.
        counters: where rates are counted; None: in this process alone.
        access: where trouble is reported.
    """

    def __init__(self, plan: Plan, *, identity: Identity | None, counters: CounterStore | None, access: Access) -> None:
        self._identity = identity
        # Counts what is admitted while the store is away, too.
        self._local = MemoryCounters()
        self._counters: CounterStore = counters if counters is not None else self._local
        self.permit = Permit(
            plan,
            identity=identity,
            ready=self._counters if isinstance(self._counters, ReadyCounters) else None,
            take_cell=self._counters.take_cell if isinstance(self._counters, CellCounters) else None,
        )
        """Decides what can be decided without waiting, which is nearly always all."""
        self._access = access

    async def check(self, facts: Facts, exchange: Exchange, scope: Scope) -> Refusal | None:
        """Decide what `permit` could not."""
        route = exchange.route
        if self._identity is None:
            # Asked a second time where the first answer was only that the counters need a wait.
            return self.permit.check_token(facts, exchange) or await self._take(route.limits, exchange)
        identity, now = self._identity, time()
        credentials = self.permit.credentials(facts)
        principal = identity.recall(credentials, now)
        limits = route.limits
        if principal is None:
            refusal = await self._take(route.limits_by_address, exchange)
            if refusal is not None:
                return refusal
            limits = route.limits_by_caller
            verified = await self._verify(identity, credentials, now, route)
            if isinstance(verified, Refusal):
                return verified
            principal = verified
        return (
            let_in(identity, principal, exchange, scope)
            or self.permit.check_token(facts, exchange)
            or await self._take(limits, exchange)
        )

    def knows(self, facts: Facts) -> Credentials | None:
        """What a connection that stays open is to be known by for as long as it does; None: nobody is told apart."""
        return None if self._identity is None else self.permit.credentials(facts)

    async def still(self, credentials: Credentials, principal: Principal, route: Route) -> Principal | None:
        """The same caller as it is known now, if it still is and still may; None: it is not.

        While a store or an issuer is away, what was proven holds until it expires by itself.
        """
        assert self._identity is not None
        now = time()
        again = self._identity.recall(credentials, now)
        if again is None:
            try:
                again = await self._identity.verify(credentials, now)
            except NotAuthenticated:
                return None
            except StoreUnavailable:
                return principal if now < principal.expires else None
        if (again.issuer, again.subject, again.tenant) != (principal.issuer, principal.subject, principal.tenant):
            return None
        return again if check_permission(self._identity, route, again) is None else None

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
