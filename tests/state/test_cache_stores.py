"""What every store of cached values promises, whatever it is built on."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from secrets import token_bytes
from typing import Any
from uuid import uuid4

import pytest

from tests.state.cache_kit import BACKENDS, SHARED_BACKENDS, opened_cache
from tests.state.counters_kit import Place, migrated_place
from workhorse.contracts import CacheClaim, CacheClaiming, CacheEntry, CacheGuarantee, CacheStore
from workhorse.embedded import Attachment

HOUR = 3600.0

Script = Callable[[CacheStore], Awaitable[Any]]
Run = Callable[[Script], Any]


@pytest.fixture(scope="module")
def place(servers: Attachment) -> Iterator[Place]:
    with migrated_place(servers) as place:
        yield place


def running(backend: str, place: Place, *, twice: bool = False) -> Run:
    def run(script: Script) -> Any:
        async def main() -> Any:
            async with opened_cache(backend, place, twice=twice) as store:
                return await script(store)

        return asyncio.run(main())

    return run


@pytest.fixture(params=BACKENDS)
def run(request: pytest.FixtureRequest, place: Place) -> Run:
    return running(request.param, place)


@pytest.fixture(params=SHARED_BACKENDS)
def run_twice(request: pytest.FixtureRequest, place: Place) -> Run:
    """On a store that loses each answer, and asks again."""
    return running(request.param, place, twice=True)


def new(word: str = "key") -> str:
    return f"{word}-{uuid4().hex}"


async def data_of(store: CacheStore, *keys: str) -> list[bytes | None]:
    return [hit and hit.data for hit in await store.get(keys)]


async def claim(store: CacheStore, key: str, *tags: str, seconds: float = 60) -> CacheClaiming:
    return await store.claim(key, tags, token=token_bytes(16), seconds=seconds)


async def claimed(store: CacheStore, key: str, *tags: str, seconds: float = 60) -> CacheClaim:
    answer = await claim(store, key, *tags, seconds=seconds)
    assert answer.claim is not None
    return answer.claim


@pytest.mark.parametrize("data", [b"", b"\x00\xff any 'bytes' \\x", b"x" * 300_000], ids=["none", "odd", "many"])
def test_an_entry_is_found_as_it_was_kept_with_the_time_that_is_left(run: Run, data: bytes) -> None:
    async def script(store: CacheStore) -> None:
        key = new("käy 'x' \"y\" {z} \ud800 \x00")
        assert await store.get([key]) == [None]
        await store.set([CacheEntry(key, data, HOUR)])
        (hit,) = await store.get([key])
        assert hit is not None
        assert hit.data == data
        assert HOUR - 60 < hit.left_seconds <= HOUR

    run(script)


def test_many_entries_are_kept_and_found_at_once_in_the_order_asked_for(run: Run) -> None:
    async def script(store: CacheStore) -> None:
        keys = [new() for _ in range(300)]
        await store.set([CacheEntry(key, key.encode(), HOUR, (new("tag"),)) for key in keys[::2]])
        expected = [None if place % 2 else key.encode() for place, key in enumerate(keys)]
        assert await data_of(store, *keys) == expected
        await store.delete(keys)
        assert await data_of(store, *keys) == [None] * 300
        assert await store.get([]) == []
        await store.set([])
        await store.delete([])

    run(script)


def test_an_entry_ends_with_its_time(run: Run) -> None:
    async def script(store: CacheStore) -> None:
        short, long = new(), new()
        await store.set([CacheEntry(short, b"1", 0.05), CacheEntry(long, b"2", HOUR)])
        await asyncio.sleep(0.12)
        assert await data_of(store, short, long) == [None, b"2"]

    run(script)


def test_the_last_value_set_is_the_one_found(run: Run) -> None:
    async def script(store: CacheStore) -> None:
        key = new()
        await store.set([CacheEntry(key, b"1", HOUR, ("old",))])
        await store.set([CacheEntry(key, b"2", 60)])
        await store.delete([], tags=["old"])
        (hit,) = await store.get([key])
        assert hit is not None
        assert hit.data == b"2"
        assert hit.left_seconds <= 60

    run(script)


def test_deleting_a_tag_deletes_its_entries_and_no_others(run: Run) -> None:
    async def script(store: CacheStore) -> None:
        red, blue = new("red"), new("blue")
        keys = [new() for _ in range(4)]
        tags = ((red,), (red, blue), (blue,), ())
        await store.set([CacheEntry(key, b"x", HOUR, tags) for key, tags in zip(keys, tags, strict=True)])
        await store.delete([], tags=[red])
        assert await data_of(store, *keys) == [None, None, b"x", b"x"]
        await store.set([CacheEntry(keys[0], b"y", HOUR, (red,))])
        assert await data_of(store, *keys) == [b"y", None, b"x", b"x"]
        await store.delete([keys[3]], tags=[red, blue, new("never used")])
        assert await data_of(store, *keys) == [None] * 4

    run(script)


def test_a_claim_is_one_makers_and_what_it_makes_is_kept(run: Run) -> None:
    async def script(store: CacheStore) -> None:
        key = new()
        mine = await claimed(store, key)
        assert await claim(store, key) == CacheClaiming(None, None)
        assert await store.fill(CacheEntry(key, b"made", HOUR), mine)
        assert await data_of(store, key) == [b"made"]
        assert not await store.fill(CacheEntry(key, b"again", HOUR), mine)
        following = await claim(store, key)
        assert following.claim is not None
        assert following.hit is not None
        assert following.hit.data == b"made"
        other = await claim(store, key)
        assert other.claim is None
        assert not other.held
        assert other.hit is not None

    run(script)


def test_an_abandoned_or_outlived_claim_is_the_next_ones(run: Run) -> None:
    async def script(store: CacheStore) -> None:
        key = new()
        first = await claimed(store, key)
        await store.abandon(key, first)
        second = await claimed(store, key, seconds=0.05)
        await store.abandon(key, first)
        await asyncio.sleep(0.1)
        third = await claimed(store, key)
        assert not await store.fill(CacheEntry(key, b"too late", HOUR), second)
        await store.abandon(key, second)
        assert (await claim(store, key)).claim is None
        assert await store.fill(CacheEntry(key, b"third", HOUR), third)
        assert await data_of(store, key) == [b"third"]

    run(script)


@pytest.mark.parametrize("event", ["deleted", "set", "held"])
def test_what_was_being_made_as_its_key_was_changed_is_not_kept(run: Run, event: str) -> None:
    async def script(store: CacheStore) -> None:
        key = new()
        mine = await claimed(store, key)
        if event == "deleted":
            await store.delete([key])
        elif event == "set":
            await store.set([CacheEntry(key, b"newer", HOUR)])
        else:
            await store.hold([key], token=token_bytes(16), seconds=60)
        assert not await store.fill(CacheEntry(key, b"stale", HOUR), mine)
        assert await data_of(store, key) == [b"newer" if event == "set" else None]

    run(script)


@pytest.mark.parametrize("event", ["deleted", "held"])
def test_what_was_being_made_as_its_tag_was_deleted_is_not_found(run: Run, event: str) -> None:
    async def script(store: CacheStore) -> None:
        key, tag, other = new(), new("tag"), new("tag")
        await store.set([CacheEntry(new(), b"x", HOUR, (tag,))])
        mine = await claimed(store, key, other, tag)
        if event == "deleted":
            await store.delete([], tags=[tag])
        else:
            await store.hold([], tags=[tag], token=token_bytes(16), seconds=60)
        await store.fill(CacheEntry(key, b"stale", HOUR), mine)
        assert await data_of(store, key) == [None]

    run(script)


def test_nothing_is_kept_under_a_held_key_until_its_holder_deletes_it(run: Run) -> None:
    async def script(store: CacheStore) -> None:
        key, token = new(), token_bytes(16)
        await store.set([CacheEntry(key, b"old", HOUR)])
        await store.hold([key], token=token, seconds=60)
        assert await data_of(store, key) == [None]
        await store.set([CacheEntry(key, b"old", HOUR)])
        assert await data_of(store, key) == [None]
        assert await claim(store, key) == CacheClaiming(None, None, held=True)
        # A deletion by somebody else does not end it.
        await store.delete([key])
        await store.delete([key], token=token_bytes(16))
        assert (await claim(store, key)).held
        await store.delete([key], token=token)
        assert await store.fill(CacheEntry(key, b"new", HOUR), await claimed(store, key))
        assert await data_of(store, key) == [b"new"]

    run(script)


def test_nothing_is_kept_under_a_held_tag_until_its_holder_deletes_it(run: Run) -> None:
    async def script(store: CacheStore) -> None:
        key, tag, token = new(), new("tag"), token_bytes(16)
        await store.set([CacheEntry(key, b"old", HOUR, (tag,))])
        await store.hold([], tags=[tag], token=token, seconds=60)
        await store.set([CacheEntry(key, b"old", HOUR, (tag,))])
        assert await data_of(store, key) == [None]
        assert await claim(store, key, tag) == CacheClaiming(None, None, held=True)
        await store.delete([], tags=[tag])
        assert (await claim(store, key, tag)).held
        await store.delete([], tags=[tag], token=token)
        assert await store.fill(CacheEntry(key, b"new", HOUR), await claimed(store, key, tag))
        assert await data_of(store, key) == [b"new"]

    run(script)


def test_a_hold_ends_by_itself_and_nothing_old_comes_back(run: Run) -> None:
    async def script(store: CacheStore) -> None:
        key, tagged, tag = new(), new(), new("tag")
        await store.set([CacheEntry(key, b"old", HOUR), CacheEntry(tagged, b"old", HOUR, (tag,))])
        await store.hold([key], tags=[tag], token=token_bytes(16), seconds=0.1)
        await asyncio.sleep(0.2)
        assert await data_of(store, key, tagged) == [None, None]
        assert await store.fill(CacheEntry(key, b"new", HOUR), await claimed(store, key))
        assert await store.fill(CacheEntry(tagged, b"new", HOUR), await claimed(store, tagged, tag))
        assert await data_of(store, key, tagged) == [b"new", b"new"]

    run(script)


def test_the_later_of_two_holds_stands(run: Run) -> None:
    async def script(store: CacheStore) -> None:
        key, tag, first, second = new(), new("tag"), token_bytes(16), token_bytes(16)
        for token in (first, second):
            await store.hold([key], tags=[tag], token=token, seconds=60)
        await store.delete([key], tags=[tag], token=first)
        assert (await claim(store, key)).held
        assert (await claim(store, new(), tag)).held
        await store.delete([key], tags=[tag], token=second)
        await claimed(store, key, tag)

    run(script)


def test_of_many_that_claim_at_once_one_gets_it(run: Run) -> None:
    async def script(store: CacheStore) -> None:
        key, tags = new(), [new("tag") for _ in range(3)]
        answers = await asyncio.gather(*(claim(store, key, *tags[turn % 3 :]) for turn in range(24)))
        winners = [answer.claim for answer in answers if answer.claim is not None]
        assert len(winners) == 1
        assert not any(answer.held for answer in answers)
        assert await store.fill(CacheEntry(key, b"x", HOUR), winners[0])

    run(script)


def test_a_second_run_after_a_lost_answer_changes_nothing(run_twice: Run) -> None:
    async def script(store: CacheStore) -> None:
        key, tag, token = new(), new("tag"), token_bytes(16)
        await store.set([CacheEntry(key, b"0", HOUR, (tag,))])
        assert await data_of(store, key) == [b"0"]
        await store.hold([key], tags=[tag], token=token, seconds=60)
        await store.delete([key], tags=[tag], token=token)
        await store.fill(CacheEntry(key, b"1", HOUR), await claimed(store, key, tag))
        assert await data_of(store, key) == [b"1"]
        await store.abandon(key, await claimed(store, key))
        await claimed(store, key)

    run_twice(script)


def test_purging_leaves_what_is_alive(run: Run) -> None:
    async def script(store: CacheStore) -> None:
        alive, held = [new() for _ in range(20)], new()
        await store.set([CacheEntry(new(), b"x", 0.01) for _ in range(40)])
        await store.set([CacheEntry(key, b"x", HOUR, ("tag",)) for key in alive])
        await store.hold([held], token=token_bytes(16), seconds=60)
        await asyncio.sleep(0.05)
        for _ in range(5):
            await store.purge()
        assert await store.purge() == 0
        assert await data_of(store, *alive) == [b"x"] * 20
        assert (await claim(store, held)).held

    run(script)


def test_each_store_declares_what_it_promises(place: Place) -> None:
    everywhere = CacheGuarantee.FENCED | CacheGuarantee.TAGS
    shared = everywhere | CacheGuarantee.SHARED | CacheGuarantee.RESTARTS
    declared = {}
    for backend in BACKENDS:

        async def script(store: CacheStore, backend: str = backend) -> None:
            declared[backend] = store.guarantees

        running(backend, place)(script)
    assert declared == {
        "memory": everywhere,
        "redis": shared,
        "postgres": shared | CacheGuarantee.TRANSACTIONAL,
    }
