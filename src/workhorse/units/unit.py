"""A unit without a request: for jobs, scripts, commands and tests.

    async with Unit(database) as work:
        await work.execute("UPDATE ...")
        await work.emit("account.closed", subject=account)

`unit()` inside the block, however deep, gives the same work. The block's end commits; an exception that leaves it
rolls back. `Unit.run` does the same with a function, and repeats it when it loses to another transaction.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Final, TypeVar

from workhorse.bridge import in_trio
from workhorse.contracts import Database, Isolation, Query, Terms
from workhorse.errors import Conflict, DatabaseUnavailable, OutcomeUnknown, UnitClosed, UnitError
from workhorse.journal.kinds import EventTypes
from workhorse.units.aftermath import call_after_commit
from workhorse.units.work import NO_KINDS, OPENER, Opener, Work

if TYPE_CHECKING:
    from contextvars import Token

__all__ = ["PAUSE_SECONDS", "Unit", "pause"]

# The first pause before a repetition; each further one doubles, and chance spreads those who collided.
PAUSE_SECONDS: Final = 0.005

T = TypeVar("T")


async def pause(attempt: int) -> None:
    """Wait a little before what lost to others is tried again; longer after each attempt."""
    await asyncio.sleep(random.random() * PAUSE_SECONDS * 2**attempt)  # noqa: S311 - spreads load, hides nothing


class Unit:
    """One transaction around a block. Used once; nothing is repeated by itself.

    Args:
        database: where the transaction comes from. Inside of another unit this is a transaction of its own, on a
            connection of its own.
        isolation: None is the database's default.
        read_only: the server refuses statements that write.
        deadline_seconds: when the unit must have ended, from its begin; None: bounded by the database's own time-outs.
        events: the kinds of events that are declared, as a service's are.
        finish: statements to be run last, in the round trip of COMMIT, such as a job's acknowledgement. Nobody looks
            at what they return, so one that must have an effect has to raise in SQL when it has none.

    Raises:
        DatabaseUnavailable: no connection could be had in time.
        OutcomeUnknown: the connection broke during COMMIT.
        UnitError: a statement failed and its error was swallowed, or others ended the transaction: rolled back.
    """

    __slots__ = ("_database", "_events", "_finish", "_seconds", "_terms", "_token", "_work", "ended", "loop")

    def __init__(
        self,
        database: Database,
        *,
        isolation: Isolation | None = None,
        read_only: bool = False,
        deadline_seconds: float | None = None,
        events: EventTypes = NO_KINDS,
        finish: Sequence[Query] = (),
    ) -> None:
        self._database = database
        self._events = events
        self._terms = Terms(isolation=isolation, read_only=read_only)
        self._seconds = deadline_seconds
        if in_trio():
            raise UnitError(
                "a Unit waits on asyncio, and this is Trio: in a handler use `await unit()`, or call a function that"
                " does all of it by on_asyncio() of workhorse.bridge.calls"
            )
        self._finish = list(finish)
        self._work: Work | None = None
        self._token: Token[Opener] | None = None
        self.ended = False
        self.loop = asyncio.get_running_loop()

    def __repr__(self) -> str:
        return f"<Unit {'ended' if self.ended else 'new' if self._work is None else 'open'}>"

    @property
    def lost(self) -> bool:
        """Whether the connection broke, so that nothing was committed unless COMMIT had been sent."""
        return self._work is not None and self._work.transaction.lost

    async def open(self) -> Work:
        """Return the work of this block.

        Raises:
            UnitClosed: the block has ended, or not begun.
        """
        if self._work is None or self.ended:
            raise UnitClosed("this unit has ended with its block; what outlives the block needs a unit of its own")
        return self._work

    def finish(self, *statements: Query) -> None:
        """Add statements to be run last, with COMMIT: for those that are known only inside the block."""
        self._finish += statements

    async def __aenter__(self) -> Work:
        """Begin the transaction."""
        if self._work is not None:
            raise UnitError("a Unit is used once; make another one")
        terms = self._terms
        if self._seconds is not None:
            terms = terms._replace(deadline=time.monotonic() + self._seconds)
        transaction, _ = await self._database.begin(terms=terms)
        self._work = Work(transaction, self._events)
        self._token = OPENER.set(self)
        return self._work

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit, or roll back if an exception leaves the block."""
        assert self._work is not None
        assert self._token is not None
        work, self.ended = self._work, True
        with suppress(ValueError):  # left in another context than it was entered in, as a generator may be
            OPENER.reset(self._token)
        if error is not None:
            if isinstance(error, Exception):
                await work.transaction.rollback()
            else:  # cancelled: a word to the server could wait, and its absence is a rollback too
                await work.transaction.abandon()
            return
        try:
            await work.transaction.commit([*work.drain(), *self._finish])
        except Exception:
            await work.transaction.rollback()  # of no effect where the transaction has ended
            raise
        except BaseException:
            await work.transaction.abandon()
            raise
        await call_after_commit(work.callbacks())

    @classmethod
    async def run(
        cls,
        database: Database,
        function: Callable[[Work], Awaitable[T]],
        *,
        attempts: int = 5,
        isolation: Isolation | None = None,
        read_only: bool = False,
        deadline_seconds: float | None = None,
        finish: Callable[[T], Sequence[Query]] | None = None,
    ) -> T:
        """Run `function` in a unit, and again where it lost to another transaction, or its connection before COMMIT.

        Args:
            database: as for the class.
            function: is given the work; what it does outside the database should bear repeating.
            attempts: how often it is run at most.
            isolation: as for the class.
            read_only: as for the class.
            deadline_seconds: for each run.
            finish: gives the statements to be run last, from what the function returned.

        Raises:
            Conflict: it lost every time. Nothing was written.
            DatabaseUnavailable: the connection broke every time, or none could be had. Nothing was written.
            OutcomeUnknown: the connection broke during COMMIT.
        """
        for attempt in range(1, attempts + 1):
            one = cls(database, isolation=isolation, read_only=read_only, deadline_seconds=deadline_seconds)
            try:
                async with one as work:
                    result = await function(work)
                    if finish is not None:
                        one.finish(*finish(result))
            except OutcomeUnknown:
                raise
            except Exception as error:
                conflicted = database.conflicted(error)
                if not conflicted and (database.timed_out(error) or not (one.lost or database.disconnected(error))):
                    raise
                if attempt == attempts:
                    raise (Conflict(attempt) if conflicted else DatabaseUnavailable()) from error
            else:
                return result
            await pause(attempt)
        raise ValueError(f"attempts is {attempts}; at least one is needed")
