"""All that is decided of a request before anything is waited for, and its place among those under way.

It is one call of the layer, and compiled, while the layer itself waits and is not.
"""

from workhorse.asgi import Reply, Scope
from workhorse.guard.admission import admit
from workhorse.guard.exchange import Exchange
from workhorse.guard.facts import Facts
from workhorse.guard.permit import Permit, Wait
from workhorse.guard.plan import Plan
from workhorse.guard.shedding import SHED, Limiter
from workhorse.guard.verdict import Refusal
from workhorse.guard.watch import Watch

__all__ = ["Entrance"]


class Entrance:
    """Lets requests in, one after the other.

    Args:
        plan: the compiled settings.
        permit: who may, and how often.
        limiter: how many at once.
        watch: ends those whose time is over.
    """

    def __init__(self, plan: Plan, permit: Permit, limiter: Limiter, watch: Watch) -> None:
        self._plan = plan
        self._permit = permit
        self._limiter = limiter
        self._watch = watch

    def ask(self, facts: Facts, exchange: Exchange, scope: Scope) -> Refusal | Reply | Wait | None:
        """Refuse or answer a request, or let it in: None, and its time has begun. `WAIT`: see `Permission.check`."""
        verdict = admit(self._plan, facts, exchange)
        if verdict is not None:
            return verdict
        permitted = self._permit.ask(facts, exchange, scope)
        return permitted if permitted is not None else self.enter(exchange)

    def enter(self, exchange: Exchange) -> Refusal | None:
        """Let in a request that may come in, if there is a place for it. While it waits for its body it has none."""
        if not exchange.enter(self._limiter):
            return SHED
        exchange.begin(self._watch)
        return None
