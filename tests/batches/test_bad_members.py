"""What a member or the function does wrong stays theirs, and what a batch has put off is nothing to it any more."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.batches.test_rounds import NOTES, Stage, follow, play, reply, write
from tests.units.databases import KINDS, open_database
from workhorse.batches.member import Answered, Member, SlowFunction
from workhorse.contracts import Query
from workhorse.errors import Problem, UnitClosed, UnitError
from workhorse.migrations import WORKHORSE
from workhorse.state.postgres.migrate import apply_migrations
from workhorse.units import Work
from workhorse.units.exchange import RunAgain
from workhorse.units.idempotency import Claim, KeyInFlight


def test_a_key_that_another_holds_waits_on_whatever_becomes_of_the_batch_that_it_left(database_url: str) -> None:
    async def slowly(work: Work, texts: Sequence[str]) -> Sequence[Any]:
        await asyncio.sleep(0.2)
        return await write(work, texts)

    async def scene(stage: Stage) -> None:
        claim = Claim(scope=uuid4(), digest=b"d" * 32)
        async with await psycopg.AsyncConnection.connect(database_url) as other:
            await other.execute("SELECT pg_advisory_xact_lock(%s)", (claim.lock_key,))
            waiting, neighbour = stage.put("waiting", claim), stage.put("neighbour")
            assert await follow(neighbour) == "wrote neighbour"
            await asyncio.sleep(0.1)
            assert not waiting.outcome.done()
        assert await follow(waiting) == "wrote waiting"
        assert stage.calls == [["neighbour"], ["waiting"]]

    play(database_url, scene, slowly)


@pytest.mark.parametrize("kind", [*KINDS[1:2], *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[2:])])
def test_batches_are_done_over_each_driver(kind: str, database_url: str) -> None:
    async def main() -> None:
        await apply_migrations(database_url, [WORKHORSE, NOTES])
        async with open_database(kind, database_url) as database:
            stage = Stage(database, write)
            claims = [Claim(scope=uuid4(), digest=b"d" * 32) for _ in range(3)]
            members = [stage.put(f"note {number}", claim) for number, claim in enumerate(claims)]
            assert await asyncio.gather(*map(follow, members)) == [f"wrote note {number}" for number in range(3)]
            again = stage.put("note 0", claims[0])
            with pytest.raises(Answered):
                await follow(again)
            assert await stage.notes() == ["note 0", "note 1", "note 2"]

    asyncio.run(main())


async def events(stage: Stage) -> list[str]:
    return [row[0] for row in await stage.database.run(Query("SELECT subject FROM workhorse.events ORDER BY id"))]


async def refuse_late(member: Member[str, str], write_more: Callable[[Work], Awaitable[object]]) -> None:
    """A handler that writes something of its own before it passes its refusal on."""
    with pytest.raises(Problem):
        await member.outcome
    assert member.work is not None
    await write_more(member.work)
    await reply(member, 409)


def test_what_a_refused_member_has_emitted_goes_with_its_refusal(database_url: str) -> None:
    async def scene(stage: Stage) -> None:
        refused, kept = stage.put("refuse"), stage.put("good")
        refusing = refuse_late(refused, lambda work: work.emit("note.refused", subject="refused"))

        async def keep() -> None:
            await kept.outcome
            assert kept.work is not None
            await kept.work.emit("note.added", subject="good")
            kept.work.drain()  # as the exchange does with the reply
            await reply(kept)

        await asyncio.gather(refusing, keep())
        assert await stage.notes() == ["good"]
        assert await events(stage) == ["good"]
        assert kept.work is not None
        with pytest.raises(UnitClosed):
            await kept.work.emit("note.added", subject="too late")

    play(database_url, scene)


def test_what_a_refused_member_has_written_undoes_the_batch_with_its_refusal(database_url: str) -> None:
    async def scene(stage: Stage) -> None:
        refused, good = stage.put("refuse"), stage.put("good")
        refusing = refuse_late(refused, lambda work: work.execute("INSERT INTO notes VALUES ('of the refused')"))
        told = await asyncio.gather(refusing, follow(good), return_exceptions=True)
        assert told[0] is None
        assert isinstance(told[1], RunAgain)
        assert await stage.notes() == []

    play(database_url, scene)


def test_a_function_that_never_ends_gives_its_lane_back(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs(work: Work, texts: Sequence[str]) -> Sequence[Any]:
        if "hangs" in texts:
            await asyncio.Event().wait()
        return await write(work, texts)

    async def scene(stage: Stage) -> None:
        monkeypatch.setattr("workhorse.batches.rounds.CALL_SECONDS", 0.2)
        hanging = stage.put("hangs")
        while not stage.calls:
            await asyncio.sleep(0.01)
        after = stage.put("after")
        with pytest.raises(SlowFunction, match="had not done a batch of 1"):
            await hanging.outcome
        assert await follow(after) == "wrote after"

    play(database_url, scene, hangs)


def test_a_function_that_lets_a_cancellation_of_its_own_pass_fails_for_the_one_command(database_url: str) -> None:
    async def careless(work: Work, texts: Sequence[str]) -> Sequence[Any]:
        if "bad" in texts:
            task = asyncio.create_task(asyncio.sleep(60))
            task.cancel()
            await task
        return await write(work, texts)

    async def scene(stage: Stage) -> None:
        bad, good = stage.put("bad"), stage.put("good")
        assert await follow(good) == "wrote good"
        with pytest.raises(UnitError, match="let pass the cancellation"):
            await bad.outcome
        assert await stage.notes() == ["good"]

    play(database_url, scene, careless)


def test_a_member_that_was_answered_is_out_when_its_batch_begins_anew(database_url: str) -> None:
    lost: list[Sequence[str]] = []

    async def loses_once(work: Work, texts: Sequence[str]) -> Sequence[Any]:
        lost.append(texts)
        if len(lost) == 1:
            raise psycopg.errors.SerializationFailure("another was first")
        return await write(work, texts)

    async def scene(stage: Stage) -> None:
        claim = Claim(scope=uuid4(), digest=b"d" * 32)
        async with await psycopg.AsyncConnection.connect(database_url) as other:
            await other.execute("SELECT pg_advisory_xact_lock(%s)", (claim.lock_key,))
            refused, good = stage.put("in flight", claim), stage.put("good")
            refused.since -= 60  # it has waited for its key as long as it may
            with pytest.raises(KeyInFlight):
                await refused.outcome
            await other.rollback()  # so the key is free when the batch begins anew
        assert await follow(good) == "wrote good"
        assert await stage.notes() == ["good"]
        assert [list(texts) for texts in lost] == [["good"], ["good"]]

    play(database_url, scene, loses_once)
