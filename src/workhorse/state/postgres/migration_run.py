"""Runs one migration so that it can be killed at any moment and run again.

Usually the file and its record are one transaction. A file that runs in none is a list of statements, and a row in
`migration_progress` says how many are done. What can run in a transaction does so together with that row. What cannot,
such as CREATE INDEX CONCURRENTLY, is noted before it begins; a note that is found later means that it may be half done,
and the catalog tells how far: an INVALID index is dropped and built anew.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection

from workhorse.errors import StartupError
from workhorse.migrations.safety import needed_number
from workhorse.migrations.script import Lone, LoneKind, Script, Statement, digest_of, read_script
from workhorse.migrations.standing import Pending
from workhorse.migrations.statements import unquote
from workhorse.sql import Queries
from workhorse.state.postgres.migration_patience import Deadline, Patience
from workhorse.state.postgres.migration_turn import insist_on_turn

__all__ = ["Runner", "record_of"]

# A lock that was not to be had, and a conflict with others that the server resolved against this transaction.
RETRIED: Final = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)
# A repeated statement leaves the table to others for as long as it ran itself, up to this.
LONGEST_REST_SECONDS: Final = 1.0


class Runner:
    """Runs migrations on one connection that holds the lock of migrations."""

    def __init__(
        self,
        connection: AsyncConnection[Any],
        queries: Queries,
        *,
        patience: Patience,
        deadline: Deadline,
        say: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._queries = queries
        self._patience = patience
        self._deadline = deadline
        self.say = say

    async def run(self, one: Pending) -> None:
        """Run one, and record it.

        Raises:
            StartupError: it failed, or could not have its locks in time. The message says what of it stands.
        """
        script = read_script(one.migration.sql, origin=str(one))
        for statement in script.statements:
            if statement.controls_transaction:
                raise StartupError(
                    f"the migration {one}, line {statement.line}, begins or ends a transaction, which is the"
                    " migrator's to do; take that out"
                )
        with contextlib.suppress(psycopg.Error):  # the server's system may not offer it
            await self.execute("limit_session")
        await insist_on_turn(self._connection, self._queries)
        if script.alone:
            await _Steps(self, one, script).run()
        else:
            await self._run_whole(one, script)
        await self.execute("forget_session")
        await self.execute("reset_session")

    async def _run_whole(self, one: Pending, script: Script) -> None:
        async def attempt() -> None:
            # The record first: after the statements, which hold locks, only the commit is left to do.
            await self.execute("record", *record_of(one, script))
            await self._connection.execute(one.migration.sql.encode())

        await self.persist(str(one), attempt, stands="it was undone")

    async def persist(self, what: str, attempt: Callable[[], Awaitable[None]], *, stands: str) -> None:
        """Run in a transaction, again while its locks are not to be had.

        Args:
            what: names it.
            attempt: runs the statements.
            stands: what a failure leaves.
        """
        began, tries = time.monotonic(), 0
        while True:
            tries += 1
            try:
                async with self._connection.transaction():
                    await self.execute("limit_transaction", *self._limits(self._patience.lock_seconds))
                    await attempt()
            except RETRIED as error:
                await self.rest(what, error, tries, time.monotonic() - began, stands=stands)
            except psycopg.Error as error:
                raise self.failure(what, error, stands=stands) from error
            else:
                return

    async def rest(self, what: str, error: psycopg.Error, tries: int, waited: float, *, stands: str) -> None:
        """Wait before the next try.

        Raises:
            StartupError: there is none.
        """
        pause = self._patience.pause(tries)
        reason = (
            "others hold a lock that it needs" if isinstance(error, RETRIED[0]) else "it lost to other transactions"
        )
        if waited + pause > self._patience.retry_seconds or pause > self._deadline.left():
            raise StartupError(
                f"the migration {what} was tried {'once' if tries == 1 else f'{tries} times'} in {waited:.0f} s, but"
                f" {reason}; {stands}."
                f" {await self._blockers()} Migrate again when they have ended"
            ) from error
        self.say(f"{what.rstrip(',')}: {reason}; again in {pause:.1f} s")
        await asyncio.sleep(pause)

    async def _blockers(self) -> str:
        rows = await (await self.execute("oldest_transactions")).fetchall()
        if not rows:
            return "No transaction is open now."
        listed = ", ".join(
            f"process {pid} ({name or 'nameless'!r}, {state}, {seconds} s)" for pid, name, state, seconds in rows
        )
        return f"The oldest open transactions (pg_stat_activity): {listed}."

    def failure(self, what: str, error: psycopg.Error, *, stands: str) -> StartupError:
        """What to tell of an error that is not tried again."""
        if self._connection.broken:
            return StartupError(
                f"the connection was lost during the migration {what}: {str(error).strip()}. Run it again, and it goes"
                " on from what stands"
            )
        if isinstance(error, psycopg.errors.QueryCanceled):
            return StartupError(
                f"the migration {what} was cancelled at the deadline, or by somebody; {stands}. Give it more time"
                " (`workhorse migrate --deadline SECONDS`), or smaller steps"
            )
        if isinstance(error, psycopg.errors.ActiveSqlTransaction):
            return StartupError(
                f"the migration {what} has what runs in no transaction: {str(error).strip()}; {stands}. Move it to a"
                " file whose first line is `-- workhorse: no transaction`"
            )
        return StartupError(f"the migration {what} failed; {stands}: {str(error).strip()}")

    async def execute(self, name: str, *params: object) -> psycopg.AsyncCursor[Any]:
        """Run one of the migrator's own statements."""
        return await self._connection.execute(self._queries[name].encode(), params)

    async def run_text(self, text: str) -> int:
        """Run a statement of a migration, and return how many rows it changed."""
        return (await self._connection.execute(text.encode())).rowcount

    async def limit_lone(self) -> None:
        """Bound the next statement outside of a transaction by the deadline alone."""
        await self.execute("limit_lone", *self._limits(self._deadline.left()))

    def _limits(self, lock_seconds: float) -> tuple[str, str]:
        left = self._deadline.left()
        return f"{max(1, round(min(lock_seconds, left) * 1000))}ms", f"{max(1, round(left * 1000))}ms"


class _Steps:
    """The statements of one file that runs in no transaction."""

    def __init__(self, runner: Runner, one: Pending, script: Script) -> None:
        self._runner = runner
        self._one = one
        self._script = script
        self._key = (one.migrations.name, one.migration.number)

    async def run(self) -> None:
        row = await (await self._runner.execute("progress", *self._key)).fetchone()
        done, digest, under_way = row or (0, digest_of(()), None)
        statements = self._script.statements
        if digest_of(statements[:done]) != digest:
            raise StartupError(
                f"the migration {self._one} is under way: what is done of it, {done} of its statements, was changed"
                " since. Restore that, and change only what comes after"
            )
        if under_way is not None and await self._settle(under_way, done):
            done += 1
        for place in range(done, len(statements)):
            statement = statements[place]
            lone = statement.lone()
            if lone is not None:
                await self._run_lone(statement, lone, place)
            elif statement.repeats:
                await self._repeat(statement, place)
            else:
                await self._run_noted(statement, place)

        async def finish() -> None:
            await self._runner.execute("record", *record_of(self._one, self._script))
            await self._runner.execute("forget_progress", *self._key)

        await self._runner.persist(str(self._one), finish, stands="its statements stand, and are not run again")

    async def _run_noted(self, statement: Statement, place: int) -> None:
        async def attempt() -> None:
            await self._note(place + 1)
            await self._runner.run_text(statement.text)

        await self._runner.persist(self._what(statement), attempt, stands=self._stands(place))

    async def _repeat(self, statement: Statement, place: int) -> None:
        changed = -1

        async def attempt() -> None:
            nonlocal changed
            changed = await self._runner.run_text(statement.text)

        while changed:
            began = time.monotonic()
            await self._runner.persist(self._what(statement), attempt, stands="what it has changed stands")
            await asyncio.sleep(min(time.monotonic() - began, LONGEST_REST_SECONDS))
        await self._note(place + 1)

    async def _run_lone(self, statement: Statement, lone: Lone, place: int) -> None:
        began, tries = time.monotonic(), 0
        what, stands = self._what(statement), self._stands(place)
        await self._clear(lone)
        await self._note(place, statement.text)
        while True:
            tries += 1
            await self._runner.limit_lone()
            try:
                await self._runner.run_text(statement.text)
                break
            except RETRIED as error:
                await self._clear(lone)
                await self._runner.rest(what, error, tries, time.monotonic() - began, stands=stands)
            except psycopg.Error as error:
                failure = self._runner.failure(what, error, stands=stands)
                await self._give_up(lone, place, failure)
                raise failure from error
        await self._note(place + 1)

    async def _give_up(self, lone: Lone, place: int, failure: StartupError) -> None:
        """Take away what a failed statement has left, if the server is still there; else the next run does it."""
        try:
            await self._clear(lone)
            await self._note(place)
        except (psycopg.Error, StartupError) as error:
            failure.add_note(f"What it left could not be taken away ({str(error).strip()}); the next run does that.")

    async def _settle(self, under_way: str, place: int) -> bool:
        """Look how far a statement came that a crash cut off, and clean up. Returns whether it is done."""
        origin = str(self._one)
        (begun,) = read_script(f"-- workhorse: no transaction\n{under_way}", origin=origin).statements
        lone = begun.lone()
        assert lone is not None  # no other is noted before it runs
        if lone.kind is LoneKind.VACUUM:
            return False
        if lone.kind is LoneKind.DROP_INDEX:
            whole = not await self._is_there(lone.index)
        else:
            found = await self._index(lone)
            whole = found is not None and found[1]
        statements = self._script.statements
        unchanged = place < len(statements) and statements[place].text == under_way
        if whole and not unchanged:
            raise StartupError(
                f"the migration {origin} is under way: `{under_way}` is done, and was changed since. Restore it as the"
                f" file's statement number {place + 1}, and change only what comes after"
            )
        if not whole:
            await self._clear(lone)
        await self._note(place + 1 if whole else place)
        return whole

    async def _clear(self, lone: Lone) -> None:
        """Drop the index of this name that somebody left half built, whoever it was."""
        if lone.kind is not LoneKind.CREATE_INDEX:
            return
        found = await self._index(lone)
        if found is not None and not found[1]:
            self._runner.say(f"{self._one}: the index {found[0]} was left half built; it is dropped, and built anew")
            await self._runner.limit_lone()
            await self._runner.run_text(f"DROP INDEX CONCURRENTLY {found[0]}")

    async def _index(self, lone: Lone) -> tuple[str, bool] | None:
        row = await (await self._runner.execute("index_of", unquote(lone.index), lone.table)).fetchone()
        return None if row is None else (row[0], row[1])

    async def _is_there(self, index: str) -> bool:
        row = await (await self._runner.execute("is_there", index)).fetchone()
        return bool(row and row[0])

    async def _note(self, done: int, under_way: str | None = None) -> None:
        digest = digest_of(self._script.statements[:done])
        await self._runner.execute("note_progress", *self._key, done, digest, under_way)

    def _what(self, statement: Statement) -> str:
        return f"{self._one}, line {statement.line},"

    def _stands(self, place: int) -> str:
        if place == 0:
            return "nothing of it stands"
        return "the statement before it stands" if place == 1 else f"the {place} statements before it stand"


def record_of(one: Pending, script: Script) -> Sequence[str | int]:
    """The row of the ledger."""
    migration = one.migration
    return one.migrations.name, migration.number, migration.name, migration.checksum, needed_number(migration, script)
