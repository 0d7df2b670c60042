"""One batch at a time on a real database, its members played by the tests: what each is told, and what stands."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from uuid import uuid4

import psycopg
import pytest

from workhorse.asgi import Reply
from workhorse.batches.member import Answered, Kept, Member, SlowHandler
from workhorse.batches.meters import BatchMeters
from workhorse.batches.rounds import RoundOptions, Rounds
from workhorse.contracts import Query
from workhorse.errors import Problem
from workhorse.migrations import WORKHORSE, Migrations
from workhorse.sql import load_queries
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.postgres.migrate import apply_migrations
from workhorse.telemetry.metrics import Registry
from workhorse.units import Work
from workhorse.units.exchange import RunAgain
from workhorse.units.idempotency import Claim, answer, kept_columns

NOTES = Migrations.inline("notes", "CREATE TABLE notes (text text NOT NULL CHECK (text <> 'forbidden'))")

Notes = Callable[[Work, Sequence[str]], Awaitable[Sequence[Any]]]
Play = Callable[["Stage"], Awaitable[None]]


async def write(work: Work, texts: Sequence[str]) -> Sequence[Any]:
    """Writes all notes in one statement, but for those to refuse."""
    fresh = [text for text in texts if not text.startswith("refuse")]
    await work.execute("INSERT INTO notes SELECT unnest(%s::text[])", (fresh,))
    return [outcome_of(text) for text in texts]


def outcome_of(text: str) -> Any:
    if text == "refuse and keep":
        return Kept(Problem("refused for good"))
    return Problem("refused") if text.startswith("refuse") else f"wrote {text}"


class Stage:
    """A database, and rounds on it."""

    def __init__(self, database: PostgresDatabase, function: Notes, **options: Any) -> None:
        self.calls: list[list[str]] = []
        self.database = database

        async def counted(work: Work, texts: Sequence[str]) -> Sequence[Any]:
            self.calls.append(list(texts))
            return await function(work, texts)

        self.metrics = Registry(None)
        meters = BatchMeters(self.metrics, "notes")
        self.rounds: Rounds[str, str] = Rounds(counted, database, RoundOptions(**{"lanes": 1, **options}), meters)

    def put(self, text: str, claim: Claim | None = None, *, alone: bool = False) -> Member[str, str]:
        member: Member[str, str] = Member(text, claim=claim, alone=alone)
        assert self.rounds.put(member)
        return member

    async def notes(self) -> list[str]:
        rows = await self.database.run(QUERY)
        return [row[0] for row in rows]


QUERY = Query("SELECT text FROM notes ORDER BY text")


def play(database_url: str, scene: Play, function: Notes = write, **options: Any) -> None:
    async def main() -> None:
        await apply_migrations(database_url, [WORKHORSE, NOTES])
        database = PostgresDatabase(database_url)
        await database.open()
        try:
            async with asyncio.timeout(30):
                await scene(Stage(database, function, **options))
        finally:
            await database.close()

    asyncio.run(main())


def a_claim(digest: bytes = bytes(32)) -> Claim:
    return Claim(scope=uuid4(), digest=digest)


KEEP: Final = load_queries("workhorse.units", "sql/queries.sql")["keep_reply"]


async def reply(member: Member[str, str], status: int = 200, body: bytes = b"fine") -> None:
    """What the exchange does with a reply."""
    assert member.work is not None
    share, claim = member.work.transaction, member.claim
    if status >= 400 and not member.work.keeps:
        await share.rollback()
    elif claim is None:
        await share.commit()
    else:
        await share.commit([Query(KEEP, kept_columns(claim, status, [(b"x-note", b"1")], body))])


def replay(claim: Claim, answered: object) -> Reply | Problem:
    assert isinstance(answered, Answered)
    return answer(claim, answered.row)


async def follow(member: Member[str, str]) -> str:
    """A handler that replies with what it is told."""
    try:
        outcome = await member.outcome
    except Answered:
        raise
    except Problem:
        await reply(member, 409, b"refused")
        raise
    await reply(member, 200, outcome.encode())
    return outcome


def test_all_that_waits_is_one_call_and_one_commit(database_url: str) -> None:
    async def scene(stage: Stage) -> None:
        members = [stage.put(f"note {number}") for number in range(5)]
        assert await asyncio.gather(*map(follow, members)) == [f"wrote note {number}" for number in range(5)]
        assert len(stage.calls) == 1
        assert len(await stage.notes()) == 5
        xids = await stage.database.run(Query("SELECT count(DISTINCT xmin::text) FROM notes"))
        assert xids[0][0] == 1

    play(database_url, scene)


def test_batches_are_counted_by_size_wait_and_end(database_url: str) -> None:
    async def scene(stage: Stage) -> None:
        members = [stage.put("fine"), stage.put("forbidden")]
        await asyncio.gather(*map(follow, members), return_exceptions=True)
        assert await stage.notes() == ["fine"]
        ends = {
            end: stage.metrics.total("workhorse_batches_total", outcome=end)
            for end in ("committed", "repeated", "split", "undone", "failed")
        }
        assert ends == {"committed": 1, "repeated": 0, "split": 1, "undone": 0, "failed": 1}
        assert stage.metrics.total("workhorse_batch_size", function="notes") == 1
        assert stage.metrics.quantile("workhorse_batch_size", 1.0) == 2
        assert stage.metrics.total("workhorse_batch_wait_seconds") == 2

    play(database_url, scene)


def test_nothing_stands_before_the_last_reply_is_in(database_url: str) -> None:
    async def scene(stage: Stage) -> None:
        quick, slow = stage.put("quick"), stage.put("slow")
        answered = asyncio.create_task(follow(quick))
        await slow.outcome
        await asyncio.sleep(0.1)
        assert not answered.done()
        assert await stage.notes() == []
        await reply(slow)
        assert await answered == "wrote quick"
        assert await stage.notes() == ["quick", "slow"]

    play(database_url, scene)


def test_a_refused_command_leaves_its_neighbours_alone(database_url: str) -> None:
    async def scene(stage: Stage) -> None:
        members = [stage.put("a"), stage.put("refuse b"), stage.put("c")]
        replies = await asyncio.gather(*map(follow, members), return_exceptions=True)
        assert replies[0] == "wrote a"
        assert isinstance(replies[1], Problem)
        assert replies[2] == "wrote c"
        assert await stage.notes() == ["a", "c"]

    play(database_url, scene)


def test_a_command_that_the_database_refuses_fails_alone(database_url: str) -> None:
    async def scene(stage: Stage) -> None:
        texts = ["a", "b", "c", "forbidden", "d", "e", "f"]
        replies = await asyncio.gather(*map(follow, map(stage.put, texts)), return_exceptions=True)
        assert [reply for reply in replies if isinstance(reply, str)] == [
            f"wrote {text}" for text in texts if text != "forbidden"
        ]
        assert isinstance(replies[3], psycopg.errors.CheckViolation)
        assert await stage.notes() == ["a", "b", "c", "d", "e", "f"]
        assert len(stage.calls) <= 2 * len(texts)

    play(database_url, scene)


def test_a_kept_reply_answers_the_same_key_later(database_url: str) -> None:
    async def scene(stage: Stage) -> None:
        claims = [a_claim(), a_claim(), a_claim()]
        texts = ["a", "refuse and keep", "refuse b"]
        await asyncio.gather(*map(follow, map(stage.put, texts, claims)), return_exceptions=True)
        again = [stage.put(text, claim) for text, claim in zip(texts, claims, strict=True)]
        replies = await asyncio.gather(*map(follow, again), return_exceptions=True)
        first, kept, forgotten = replies
        first_reply, kept_reply = replay(claims[0], first), replay(claims[1], kept)
        assert isinstance(first_reply, Reply)
        assert (first_reply.status, first_reply.body) == (200, b"wrote a")
        assert isinstance(kept_reply, Reply)
        assert kept_reply.status == 409
        assert not isinstance(forgotten, Answered), "a refusal that is not kept is decided anew"
        assert await stage.notes() == ["a"]
        assert stage.calls == [texts, ["refuse b"]]

    play(database_url, scene)


def test_the_same_key_with_another_body_is_refused(database_url: str) -> None:
    async def scene(stage: Stage) -> None:
        claim = a_claim()
        await follow(stage.put("a", claim))
        other = Claim(scope=claim.scope, digest=b"\1" * 32)
        with pytest.raises(Answered) as caught:
            await follow(stage.put("b", other))
        refusal = replay(other, caught.value)
        assert isinstance(refusal, Problem)
        assert refusal.status == 422

    play(database_url, scene)


def test_a_key_that_another_process_holds_holds_up_nobody_else(database_url: str) -> None:
    async def scene(stage: Stage) -> None:
        claim = a_claim()
        holder = await psycopg.AsyncConnection.connect(database_url)
        async with holder:
            await holder.execute("SELECT pg_advisory_xact_lock(%s)", (claim.lock_key,))
            held, free = stage.put("held", claim), stage.put("free")
            assert await follow(free) == "wrote free"
            assert not held.outcome.done()
            await holder.rollback()
            assert await follow(held) == "wrote held"
        assert await stage.notes() == ["free", "held"]

    play(database_url, scene)


def test_a_member_that_leaves_before_its_outcome_leaves_nothing(database_url: str) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(work: Work, texts: Sequence[str]) -> Sequence[Any]:
        outcomes = await write(work, texts)
        reached.set()
        await go_on.wait()
        return outcomes

    async def scene(stage: Stage) -> None:
        gone, stays = stage.put("gone"), stage.put("stays")
        answered = asyncio.create_task(follow(stays))
        await reached.wait()
        gone.leave()
        go_on.set()
        assert await answered == "wrote stays"
        assert await stage.notes() == ["stays"]
        assert stage.calls == [["gone", "stays"], ["stays"]]

    play(database_url, scene, slowly)


@pytest.mark.parametrize("fault", ["leaves", "fails", "is slow"])
def test_a_member_that_fails_after_its_outcome_is_undone_and_the_others_run_again(
    database_url: str, fault: str
) -> None:
    async def scene(stage: Stage) -> None:
        bad, good = stage.put("bad"), stage.put("good")
        replies = asyncio.create_task(follow(good))
        await bad.outcome
        if fault == "leaves":
            bad.leave()
        elif fault == "fails":
            await asyncio.gather(reply(bad, 500), return_exceptions=True)
        with pytest.raises(RunAgain):
            await replies
        if fault == "is slow":
            with pytest.raises(RunAgain):
                await reply(bad)
        assert await stage.notes() == []
        repeated, other = stage.put("good", alone=True), stage.put("other")
        assert list(await asyncio.gather(follow(repeated), follow(other))) == ["wrote good", "wrote other"]
        assert stage.calls[1:] == [["good"], ["other"]]

    play(database_url, scene, reply_seconds=0.3)


def test_batches_that_deadlock_are_begun_anew(database_url: str) -> None:
    first: list[str] = []

    async def bump(work: Work, keys: Sequence[str]) -> Sequence[Any]:
        for key in keys:
            await work.execute("UPDATE counters SET n = n + 1 WHERE key = %s", (key,))
            first.append(key)
            while len(first) < 2:  # until each of the two has its first
                await asyncio.sleep(0.01)
        return list(keys)

    async def scene(stage: Stage) -> None:
        await stage.database.run(Query("CREATE TABLE counters (key text PRIMARY KEY, n int NOT NULL)"))
        await stage.database.run(Query("INSERT INTO counters VALUES ('a', 0), ('b', 0)"))
        one = [stage.put("a"), stage.put("b")]
        while not stage.calls:
            await asyncio.sleep(0.01)
        other = [stage.put("b"), stage.put("a")]
        assert await asyncio.gather(*map(follow, [*one, *other])) == ["a", "b", "b", "a"]
        rows = await stage.database.run(Query("SELECT n FROM counters"))
        assert [row[0] for row in rows] == [2, 2]
        assert len(stage.calls) > 2, "one of the two lost"

    play(database_url, scene, bump, lanes=2, at_most=2)


def test_a_wrong_number_of_outcomes_is_an_error_that_names_the_function(database_url: str) -> None:
    async def forgets(work: Work, texts: Sequence[str]) -> Sequence[Any]:
        await write(work, texts)
        return []

    async def scene(stage: Stage) -> None:
        with pytest.raises(Exception, match="got 1 commands and returned 0 outcomes"):
            await follow(stage.put("a"))
        assert await stage.notes() == []

    play(database_url, scene, forgets)


def test_a_handler_that_is_ready_while_its_batch_is_undone_is_told_that_nothing_stands(database_url: str) -> None:
    """The process stood still for longer than a handler may take, and the handler went on during the rollback."""

    async def scene(stage: Stage) -> None:
        member = stage.put("late", a_claim())
        await member.outcome
        time.sleep(0.2)
        for _ in range(5):
            await asyncio.sleep(0)
        with pytest.raises(RunAgain):
            await reply(member)
        assert await stage.notes() == []

    play(database_url, scene, reply_seconds=0.1)


def test_a_handler_that_is_slow_by_itself_as_well_is_at_fault(database_url: str) -> None:
    async def scene(stage: Stage) -> None:
        member = stage.put("slow", alone=True)
        await member.outcome
        await asyncio.sleep(0.3)
        with pytest.raises(SlowHandler):
            await reply(member)
        assert await stage.notes() == []

    play(database_url, scene, reply_seconds=0.1)
