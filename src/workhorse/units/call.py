"""One request on its way through its runs, and what holds for all requests of a layer."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workhorse.asgi import Scope, Send
from workhorse.contracts import Database, Terms
from workhorse.journal.kinds import EventTypes
from workhorse.sql import Queries
from workhorse.telemetry.metrics import Registry
from workhorse.units.body import Body
from workhorse.units.sealing import Seal

if TYPE_CHECKING:
    from collections.abc import Callable

    from workhorse.journal import RecordRule
    from workhorse.units.idempotency import Claim

__all__ = ["Call", "Rules"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What holds for all requests of a layer."""

    queries: Queries
    """The room's SQL."""
    seal: Seal | None
    """Encrypts the replies that are kept."""
    max_reply_bytes: int
    """The largest body that is kept."""
    keep_seconds: int
    """How long a key is answered with its first reply."""
    wait_seconds: float
    """Longest wait for the first request with the same key."""
    metrics: Registry
    """Where rooms above count what they do with requests."""
    kinds: EventTypes
    """The events that are declared."""


class Call:
    """One request. What few requests have is set where it is found."""

    __slots__ = (
        "_as_it_came",
        "audit",
        "batched",
        "body",
        "claim",
        "database",
        "path",
        "runs",
        "scope",
        "send",
        "settled",
        "terms",
    )

    def __init__(self, scope: Scope, body: Body, send: Send, database: Database, terms: Terms) -> None:
        self.scope = scope
        # Routers write into the scope: what a mount has taken off the path would be taken off once more.
        self._as_it_came = dict(scope)
        self.body = body
        self.send = send
        self.database = database
        """Where its transactions come from."""
        self.terms = terms
        """On what they are begun."""
        self.claim: Claim | None = None
        """Its key."""
        self.audit: RecordRule | None = None
        """What is recorded of it with its unit."""
        self.path = ""
        """As the policy was found by, where it is audited."""
        self.batched = False
        """Whether the handler's batch claims the key."""
        self.runs = 0
        """How often it was run before."""
        self.settled: Callable[[], None] | None = None
        """Called once its transaction has ended."""

    def rewind(self) -> None:
        """Make it as it came, for another run."""
        self.runs += 1
        self.body.rewind()
        self.scope.clear()
        self.scope.update(self._as_it_came)
