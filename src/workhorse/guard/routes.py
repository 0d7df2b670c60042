"""Policies, compiled once into what the guard looks up for a request.

Once an identity is configured, a request that no policy matches is not let in: a route without a policy is refused at
start-up, so nothing is there, and a router that is more lenient than the table must not become a way around it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from workhorse.asgi import Scope
from workhorse.policy import Policy, PolicyTable, Priority
from workhorse.rate import Per, Rate

__all__ = ["Limit", "Route", "RouteTable", "template_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One rate limit of one route."""

    name: str
    """Names it in the RateLimit headers."""
    prefix: str
    """What its counters' names begin with."""
    rate: Rate
    per: Per
    interval_us: int
    capacity: int
    described: bytes
    """As an item of RateLimit-Policy."""
    policy_field: tuple[bytes, bytes]
    """The same as the whole header, of a route that has one limit."""
    left: bytes
    """As an item of RateLimit, to be filled with what is left and the seconds until all of it is back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What the guard does for the requests of one policy, or of none."""

    policy: Policy | None
    pattern: str
    """The policy's; empty for none."""
    path: str
    """The path template of the policy, for the metrics of apps whose framework does not tell it."""
    scopes: frozenset[str]
    public: bool
    limits: tuple[Limit, ...]
    limits_by_address: tuple[Limit, ...]
    """Those that are asked before it is known who calls: only the sender's own. What all share, a stranger with made-up
    credentials must not use up."""
    limits_by_caller: tuple[Limit, ...]
    """The others."""
    priority: Priority
    deadline_seconds: float
    max_body_bytes: int
    content_types: frozenset[bytes] | None
    cancel_on_disconnect: bool
    encoded_slashes: bool
    double_escapes: bool
    cross_site: bool


class RouteTable:
    """Finds the route for a request.

    Args:
        policies: the routes that differ from the defaults.
        max_body_bytes: where a policy sets none.
        deadline_seconds: where a policy sets none.
    """

    def __init__(self, policies: Iterable[Policy], *, max_body_bytes: int, deadline_seconds: float) -> None:
        self._table = PolicyTable(policies)
        self._routes: Final[Mapping[str, Route]] = {
            policy.pattern: _compile(policy, max_body_bytes, deadline_seconds) for policy in self._table
        }
        self.unmatched: Final = _compile(None, max_body_bytes, deadline_seconds)
        self.policies: Final = self._table
        self._find: Final = self._table.find
        self._empty: Final = not self._routes

    def __iter__(self) -> Iterator[Route]:
        """The routes that have a policy."""
        return iter(self._routes.values())

    def find(self, method: str, path: str) -> Route:
        """The route of the policy that matches best; `unmatched` if none does."""
        if self._empty:
            return self.unmatched
        policy = self._find(method, path)
        return self._routes[policy.pattern] if policy is not None else self.unmatched


def template_of(scope: Scope, route: Route) -> str:
    """The path template of a request that was served, for metrics: the framework's own, else the policy's."""
    served = scope.get("route")
    return route.path if served is None else getattr(served, "path", "") or route.path


def _compile(policy: Policy | None, max_body_bytes: int, deadline_seconds: float) -> Route:
    # The defaults of a policy are those of a request without one.
    given = policy if policy is not None else Policy("* /")
    limits = tuple(_limit(given, number, rate) for number, rate in enumerate(given.rates))
    by_address = tuple(limit for limit in limits if limit.per == "address")
    return Route(
        policy=policy,
        pattern=policy.pattern if policy is not None else "",
        path=policy.path if policy is not None else "",
        scopes=given.scopes,
        public=given.public,
        limits=limits,
        limits_by_address=by_address,
        limits_by_caller=tuple(limit for limit in limits if limit.per != "address"),
        priority=given.priority,
        deadline_seconds=given.deadline if given.deadline is not None else deadline_seconds,
        max_body_bytes=given.max_body_bytes if given.max_body_bytes is not None else max_body_bytes,
        content_types=frozenset(kind.encode() for kind in given.content_types) or None,
        cancel_on_disconnect=given.cancel_on_disconnect,
        encoded_slashes=given.encoded_slashes,
        double_escapes=given.double_escapes,
        cross_site=given.insecure_cross_site,
    )


def _limit(policy: Policy, number: int, rate: Rate) -> Limit:
    name = rate.per if number == 0 else f"{rate.per}-{number + 1}"
    described = b'"%b";q=%d;w=%d' % (name.encode(), rate.requests, rate.period_seconds)
    return Limit(
        name=name,
        # The rate is in the name: a changed limit starts with counters of its own, not with the old one's debts.
        prefix=f"{policy.pattern}|{name}|{rate.limit}|{rate.capacity}|",
        rate=rate,
        per=rate.per,
        interval_us=rate.interval_us,
        capacity=rate.capacity,
        described=described,
        policy_field=(b"ratelimit-policy", described),
        left=b'"%b";r=%%d;t=%%d' % name.encode(),
    )
