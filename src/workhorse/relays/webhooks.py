"""Events as signed requests to somebody's endpoint, tried again until it takes them.

    billing = Webhook("billing", "https://billing.example/hooks", secrets=[secret], types=["invoice.*"])
    service = Service(app, relays=[billing])

Two steps, so that an endpoint that is away for a day holds up nothing else. The feed notes each event as a delivery, in
the transaction of its position: exactly once. Any number of processes then take deliveries that are due and post them.
A delivery is put off as it is taken, until its attempt must have ended; whoever is killed with it leaves it to others.

What is promised: at least once, with the event's id as `webhook-id` at every attempt; in order as `order` says. What is
not: once only. A receiver that took a message whose reply was lost sees it again, and tells it by its id.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Literal, NamedTuple

import msgspec

from workhorse.contracts import Database, Query
from workhorse.errors import SettingsError
from workhorse.feeds import Feed, Recorded
from workhorse.relays.addresses import networks_of
from workhorse.relays.attempts import RETRY_SECONDS, Next, Outcome, next_step
from workhorse.relays.sending import Sender, check_url
from workhorse.relays.signing import check_secret, sign
from workhorse.sql import Queries, load_queries
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Registry
from workhorse.units import Work

__all__ = ["Order", "Standing", "Webhook"]

Order = Literal["none", "subject", "endpoint"]
"""Which deliveries wait for each other: none, those of one subject, or all of the endpoint."""

BUSY_SECONDS: Final = 0.05
IDLE_SECONDS: Final = 1.0
AFTER_ERROR_SECONDS: Final = 2.0
# An attempt ends with its deadline; what is still put off after this was given up by its process.
GRACE_SECONDS: Final = 10.0
MAX_DEADLINE_SECONDS: Final = 300
MAX_CONCURRENCY: Final = 100
MAX_SECRETS: Final = 4
MAX_PAUSES: Final = 100


class Standing(NamedTuple):
    """How an endpoint stands."""

    disabled: str
    """Why nothing is sent; empty: it is."""
    waiting: int
    dead: int
    last_error: str


@dataclass(frozen=True, slots=True)
class Webhook:
    """One endpoint.

    Args:
        name: names it in the database and metrics; it never changes. As a feed's.
        url: `https://host/path`.
        secrets: what messages are signed with (see `signing`): the present one, and while it is changed the former.
        types: of the events that it gets, as a feed's; by default all.
        order: `none` posts up to `concurrency` at once; `subject` and `endpoint` one after the other of each lane.
        retry_seconds: the pauses between attempts, each spread by a fifth. After the last one a delivery is a dead
            letter; in order, where none may be passed by, the endpoint is disabled instead.
        disable_after_seconds: an endpoint that has taken nothing for so long is disabled.
        deadline_seconds: for one attempt.
        concurrency: attempts at once, of one process.
        insecure_http: take an `http` url.
        insecure_networks: networks that are not public and may be sent to, such as `10.1.0.0/16`.

    Raises:
        SettingsError: a value is malformed.
    """

    name: str
    url: str
    secrets: Sequence[str] = field(kw_only=True, repr=False)
    types: Sequence[str] = field(default=(), kw_only=True)
    order: Order = field(default="none", kw_only=True)
    retry_seconds: Sequence[float] = field(default=RETRY_SECONDS, kw_only=True)
    disable_after_seconds: float = field(default=5 * 86_400, kw_only=True)
    deadline_seconds: float = field(default=15.0, kw_only=True)
    concurrency: int = field(default=8, kw_only=True)
    insecure_http: bool = field(default=False, kw_only=True)
    insecure_networks: Sequence[str] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        check_url(self.url, insecure_http=self.insecure_http)
        if isinstance(self.secrets, str) or not 1 <= len(self.secrets) <= MAX_SECRETS:
            raise SettingsError(f"the webhook {self.name!r} has no list of 1 to {MAX_SECRETS} secrets")
        for secret in self.secrets:
            check_secret(secret)
        if self.order not in {"none", "subject", "endpoint"}:
            raise SettingsError(f"the webhook {self.name!r} has order={self.order!r}; it is none, subject or endpoint")
        if not 0 < self.deadline_seconds <= MAX_DEADLINE_SECONDS or not 1 <= self.concurrency <= MAX_CONCURRENCY:
            raise SettingsError(
                f"the webhook {self.name!r} has deadline_seconds={self.deadline_seconds:g} and concurrency="
                f"{self.concurrency}; they are at most {MAX_DEADLINE_SECONDS} and {MAX_CONCURRENCY}"
            )
        if len(self.retry_seconds) > MAX_PAUSES or any(pause <= 0 for pause in self.retry_seconds):
            raise SettingsError(f"the webhook {self.name!r} has retry_seconds that are not 0 to {MAX_PAUSES} pauses")
        try:
            networks_of(self.insecure_networks)
        except ValueError as error:
            raise SettingsError(f"the webhook {self.name!r} has insecure_networks that are none: {error}") from None
        _ = self.feed

    @property
    def feed(self) -> Feed:
        """What notes deliveries. A new endpoint gets what comes from then on."""
        return Feed(f"webhook.{self.name}", self._enqueue, types=self.types, start="now")

    @asynccontextmanager
    async def running(
        self, database: Database, *, log: Log | None = None, metrics: Registry | None = None
    ) -> AsyncGenerator["Deliverer"]:
        """Deliver what is due during the block. What is under way at its end is given up, and delivered again."""
        deliverer = Deliverer(self, database, log=log, metrics=metrics)
        task = asyncio.create_task(deliverer.run(), name=f"webhook {self.name}")
        try:
            yield deliverer
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def enable(self, database: Database) -> None:
        """Send to it again after it was disabled, what waits first."""
        await database.run(Query(_queries()["enable"], (self.name, self.name)))

    async def revive(self, database: Database) -> int:
        """Deliver the dead letters again. Returns how many they are."""
        return len(await database.run(Query(_queries()["revive"], (self.name,))))

    async def standing(self, database: Database) -> Standing:
        """How it stands, for an operator."""
        rows = await database.run(Query(_queries()["standing"], (self.name,)))
        if not rows:
            return Standing("", 0, 0, "")
        disabled, waiting, dead, error = rows[0]
        return Standing(disabled or "", waiting, dead, error or "")

    async def _enqueue(self, work: Work, events: Sequence[Recorded]) -> None:
        rows = [{"event_id": event.id, "lane": self._lane(event), "body": body_of(event)} for event in events]
        await work.execute(_queries()["enqueue"], (self.name, msgspec.json.encode(rows).decode()))

    def _lane(self, event: Recorded) -> str | None:
        return None if self.order == "none" else event.subject if self.order == "subject" else ""


class Deliverer:
    """Posts the deliveries of one endpoint that are due."""

    def __init__(
        self, webhook: Webhook, database: Database, *, log: Log | None = None, metrics: Registry | None = None
    ) -> None:
        self._webhook = webhook
        self._database = database
        self._log = log
        self._queries = _queries()
        self._sender = Sender(
            webhook.url,
            allowed=networks_of(webhook.insecure_networks),
            deadline_seconds=webhook.deadline_seconds,
        )
        registry = metrics if metrics is not None else Registry(None)
        self._attempts = registry.counter(
            "workhorse_webhook_attempts_total", "Attempts to deliver, by what followed.", ("endpoint", "next")
        )

    def __repr__(self) -> str:
        return f"<Deliverer of {self._webhook.name!r}>"

    async def run(self) -> None:
        """Deliver until cancelled."""
        idle, known = BUSY_SECONDS, False
        while True:
            try:
                if not known:
                    await self._run("know", self._webhook.name)
                    known = True
                sent = await self.turn()
            except Exception as error:  # noqa: BLE001 - what was taken comes due again, whatever it was
                if self._log is not None:
                    self._log.event("error", "webhook.failed", endpoint=self._webhook.name, exception=error)
                await asyncio.sleep(AFTER_ERROR_SECONDS)
                continue
            idle = BUSY_SECONDS if sent else min(idle * 2, IDLE_SECONDS)
            if not sent:
                await asyncio.sleep(idle)

    async def turn(self) -> int:
        """Take what is due, as much as may be under way at once, and try it. Returns how many attempts it were."""
        put_off = self._webhook.deadline_seconds + GRACE_SECONDS
        taken = await self._run("take", self._webhook.name, self._webhook.concurrency, f"{put_off:g}")
        if taken:
            async with asyncio.TaskGroup() as group:
                for id_, event_id, body, attempts, ordered in taken:
                    group.create_task(self._attempt(id_, str(event_id), body, attempts, ordered=ordered))
        return len(taken)

    async def _attempt(self, id_: int, event_id: str, body: str, attempts: int, *, ordered: bool) -> None:
        content = body.encode()
        headers = sign(self._webhook.secrets, message_id=event_id, timestamp=int(time.time()), body=content)
        outcome = await self._sender.post(content, headers)
        step, pause = next_step(outcome, attempts, self._webhook.retry_seconds, ordered=ordered)
        self._attempts.labels(self._webhook.name, step.name.lower()).add(1)
        if step is Next.FORGET:
            await self._run("forget", id_, attempts)
        elif step is Next.BURY:
            self._tell("error", "webhook.dead_letter", outcome, message=event_id, attempts=attempts)
            await self._look(await self._run("bury", outcome.said, id_, attempts))
        else:
            self._tell("warning", "webhook.not_taken", outcome, message=event_id, attempts=attempts, again_in=pause)
            await self._look(await self._run("retry", f"{pause:g}", outcome.said, id_, attempts))
            if step is Next.DISABLE:
                await self._disable(f"after {attempts} attempts {outcome.said}")

    async def _look(self, rows: Sequence[Sequence[Any]]) -> None:
        """Disable the endpoint if it has taken nothing for too long."""
        if rows and rows[0][0] > self._webhook.disable_after_seconds:
            await self._disable(f"it has taken nothing for {self._webhook.disable_after_seconds:g} s")

    async def _disable(self, reason: str) -> None:
        await self._run("disable", reason, self._webhook.name)
        if self._log is not None:
            self._log.event("error", "webhook.disabled", endpoint=self._webhook.name, reason=reason)

    def _tell(self, level: Literal["warning", "error"], event: str, outcome: Outcome, **fields: object) -> None:
        if self._log is not None:
            self._log.event(level, event, endpoint=self._webhook.name, why=outcome.said, **fields)

    async def _run(self, query: str, *params: object) -> Sequence[Sequence[Any]]:
        return await self._database.run(Query(self._queries[query], params))


def body_of(event: Recorded) -> str:
    """The message of an event: `type`, `timestamp` and `data`, as Standard Webhooks has them, with id and subject."""
    message = {
        "type": event.type,
        "timestamp": event.occurred_at,
        "data": event.data,
        "id": event.id,
        "subject": event.subject,
    }
    return msgspec.json.encode(message).decode()


@cache
def _queries() -> Queries:
    return load_queries("workhorse.relays", "sql/queries.sql")
