"""Records that have no unit to commit with: denials, failures, reads without a transaction, logins.

They wait in memory and are written by one task, many at a time, so that a refusal costs the request no round trip.
What that promises, and what not:

- `note` returns at once. Its record is stored within about `flush_seconds`, unless the process is killed before, or
  the database is away for so long that `max_waiting` others wait: then records are dropped, and counted. How many is
  itself recorded, as `audit.dropped`, as soon as the database answers, and in `workhorse_audit_dropped_total`.
- `store` returns when its record is stored, and raises when it cannot be in time. Those who wait share one statement.

A record's id is made here, once. A statement whose answer was lost is sent again, and finds what it has stored.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Final, NamedTuple, Self, cast

from workhorse.audited import as_subject
from workhorse.context import CURRENT
from workhorse.contracts import Database, Query
from workhorse.errors import Problem
from workhorse.journal.events import Event, append_once
from workhorse.telemetry.log import Log
from workhorse.telemetry.metrics import Registry

__all__ = ["RecordNotStored", "Trail"]

MAX_AT_ONCE: Final = 500
FLUSH_SECONDS: Final = 0.05
STORE_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 0.1
MAX_RETRY_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 5.0


class RecordNotStored(Problem):
    """503: this request's record could not be stored, and nothing is answered without it."""

    status = 503
    title = "Not available"

    def __init__(self) -> None:
        super().__init__("The record of this request could not be stored. Try again.")


class Waiting(NamedTuple):
    """A record, and who waits for it to be stored, if anybody does."""

    event: Event
    stored: "asyncio.Future[None] | None"


class Trail:
    """Writes records beside units.

    Args:
        database: whose journal they are written to.
        log: where it is told that records were dropped.
        metrics: where they are counted.
        max_waiting: the most that wait at once.
        store_seconds: how long `store` waits at most.
        fail_closed: logins and denials, too, wait until they are stored.
        all_denials: record the refusals of all routes, also of paths that no policy matches; else of audited ones.
        logins: record logins, failed ones, and logouts.
    """

    def __init__(
        self,
        database: Database,
        *,
        log: Log | None = None,
        metrics: Registry | None = None,
        max_waiting: int = 10_000,
        store_seconds: float = STORE_SECONDS,
        fail_closed: bool = False,
        all_denials: bool = False,
        logins: bool = True,
    ) -> None:
        self._database = database
        self._log = log
        self._max = max_waiting
        self._store_seconds = store_seconds
        self.fail_closed: Final = fail_closed
        self.all_denials: Final = all_denials
        self._logins = logins
        self._waiting: list[Waiting] = []
        self._dropped = 0
        self._wake = asyncio.Event()
        self._urgent = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        registry = metrics if metrics is not None else Registry(None)
        self._stored = registry.counter(
            "workhorse_audit_stored_total", "Records that were stored beside a unit."
        ).labels()
        self._lost = registry.counter(
            "workhorse_audit_dropped_total", "Records that were dropped, because too many waited or the end came."
        ).labels()

    def __repr__(self) -> str:
        return f"<Trail with {len(self._waiting)} waiting>"

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="audit trail")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Store what waits, for a bounded time, and tell what could not be."""
        task, self._task = self._task, None
        if task is None:
            return
        end = monotonic() + CLOSE_SECONDS
        while self._waiting and monotonic() < end:
            self._urgent.set()
            self._wake.set()
            await asyncio.sleep(FLUSH_SECONDS / 5)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        if self._waiting:
            left, self._waiting = self._waiting, []
            self._drop(len(left))
            for one in left:
                _fail(one, RecordNotStored())
        self._tell_dropped()

    def note(self, event: Event) -> bool:
        """Have `event` stored soon. False: it was dropped, because too many wait."""
        if len(self._waiting) >= self._max:
            self._drop(1)
            return False
        self._waiting.append(Waiting(event, None))
        self._wake.set()
        return True

    async def store(self, event: Event) -> None:
        """Store `event`.

        Raises:
            RecordNotStored: it was not, as far as is known, within `store_seconds`.
        """
        if len(self._waiting) >= self._max or self._task is None:
            self._drop(1)
            raise RecordNotStored
        waiting = Waiting(event, asyncio.get_running_loop().create_future())
        assert waiting.stored is not None
        self._waiting.append(waiting)
        self._urgent.set()
        self._wake.set()
        try:
            async with asyncio.timeout(self._store_seconds):
                await waiting.stored
        except TimeoutError:
            raise RecordNotStored from None

    def tell(self, kind: str, *, subject: str, data: object = None) -> None:
        """Record soon what the identity room tells of: see `contracts.Recorder`."""
        if self._logins:
            self.note(_identity_event(kind, subject, data))

    async def record(self, kind: str, *, subject: str, data: object = None) -> None:
        """Record what the identity room tells of: see `contracts.Recorder`."""
        if not self._logins:
            return
        event = _identity_event(kind, subject, data)
        if self.fail_closed:
            await self.store(event)
        else:
            self.note(event)

    async def _run(self) -> None:
        retry = RETRY_SECONDS
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._waiting and not self._urgent.is_set():
                with suppress(TimeoutError):  # more may come, and nobody waits
                    async with asyncio.timeout(FLUSH_SECONDS):
                        await self._urgent.wait()
            self._urgent.clear()
            while self._waiting:
                batch = self._waiting[:MAX_AT_ONCE]
                try:
                    await self._write(batch)
                except Exception as error:  # noqa: BLE001 - whatever it was, they wait on
                    if self._log is not None:
                        self._log.event(
                            "error", "audit.not_stored", waiting=len(self._waiting), again_in=retry, exception=error
                        )
                    await asyncio.sleep(retry)
                    retry = min(retry * 2, MAX_RETRY_SECONDS)
                    continue
                retry = RETRY_SECONDS
                del self._waiting[: len(batch)]

    async def _write(self, batch: Sequence[Waiting]) -> None:
        events = [one.event for one in batch]
        dropped = self._dropped
        if dropped:
            events.append(Event.of("audit.dropped", subject="audit", data={"records": dropped}))
        await self._database.run(Query(*append_once(events)), repeatable=True)
        self._dropped -= dropped
        self._stored.add(len(batch))
        for one in batch:
            if one.stored is not None and not one.stored.done():
                one.stored.set_result(None)

    def _drop(self, count: int) -> None:
        if not self._dropped:
            self._dropped = count
            self._tell_dropped()
        else:
            self._dropped += count
        self._lost.add(count)

    def _tell_dropped(self) -> None:
        if self._dropped and self._log is not None:
            self._log.event("error", "audit.dropped", records=self._dropped, most_that_wait=self._max)


def _identity_event(kind: str, subject: str, data: object) -> Event:
    facts: dict[str, object] = dict(cast("Mapping[str, object]", data)) if isinstance(data, Mapping) else {}
    request = CURRENT.get(None)
    if request is not None:
        facts["client"] = request.client
    return Event.of(kind, subject=as_subject(subject), data=facts)


def _fail(one: Waiting, error: Exception) -> None:
    if one.stored is not None and not one.stored.done():
        one.stored.set_exception(error)
