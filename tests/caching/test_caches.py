"""What an app sees of a cache: typed values, one maker, stale and early values, absence, near values, tags."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import pytest
from pydantic import BaseModel

from workhorse.caching import Cache, Caches, Codec, Near
from workhorse.contracts import CacheEntry
from workhorse.errors import Problem
from workhorse.state.memory.cache import MemoryCache


class Price(msgspec.Struct):
    sku: str
    cents: int


class PydanticPrice(BaseModel):
    sku: str
    cents: int


class NotFound(Problem):
    status = 404


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Maker:
    """Makes 1, 2, 3 and so on; or fails."""

    seconds: float = 0.0
    made: int = 0
    fails: Exception | None = None

    async def __call__(self) -> int:
        await asyncio.sleep(self.seconds)
        if self.fails is not None:
            raise self.fails
        self.made += 1
        return self.made


def running(script: Callable[..., Awaitable[Any]], *, clock: Clock | None = None, **options: Any) -> Any:
    async def main() -> Any:
        caches = Caches(MemoryCache(clock=clock) if clock else MemoryCache(), **options)
        try:
            return await script(caches)
        finally:
            await caches.close()

    return asyncio.run(main())


def plain(caches: Caches, **options: Any) -> Cache[int]:
    return caches.open("numbers", int, **({"ttl": 100.0, "jitter": 0.0, "early": 0.0} | options))


def test_a_value_comes_back_as_its_type_and_as_an_object_of_ones_own() -> None:
    async def script(caches: Caches) -> None:
        prices = caches.open("prices", Price, ttl=60)
        assert await prices.get("a") is None
        price = Price("a", 100)
        assert await prices.set("a", price)
        first, second = await prices.get("a"), await prices.get("a")
        assert first == second == price
        assert first is not second
        models = caches.open(
            "models",
            PydanticPrice,
            ttl=60,
            codec=Codec(lambda model: model.model_dump_json().encode(), PydanticPrice.model_validate_json),
        )
        await models.set("a", PydanticPrice(sku="a", cents=1))
        assert await models.get("a") == PydanticPrice(sku="a", cents=1)

    running(script)


def test_what_is_not_of_the_type_any_more_is_made_anew_and_reported() -> None:
    async def script(caches: Caches) -> None:
        old = Caches(caches._gate.store).open("prices", int, ttl=60)
        await old.set("a", 5)
        prices = caches.open("prices", Price, ttl=60)
        assert await prices.get("a") is None

        async def make() -> Price:
            return Price("a", 1)

        assert await prices.once("a", make) == Price("a", 1)
        assert await prices.get("a") == Price("a", 1)

    events: list[str] = []
    running(script, report=lambda event, _error: events.append(event))
    assert set(events) == {"undecodable"}


def test_another_version_or_name_has_other_values() -> None:
    async def script(caches: Caches) -> None:
        await plain(caches).set("key", 1)
        assert await caches.open("others", int, ttl=60).get("key") is None
        following = Caches(caches._gate.store)
        assert await plain(following, version=2).get("key") is None
        assert await plain(Caches(caches._gate.store)).get("key") == 1

    running(script)


def test_many_are_set_and_got_at_once() -> None:
    async def script(caches: Caches) -> None:
        numbers = plain(caches)
        await numbers.set_many({str(n): n for n in range(50)}, tags=["even more"])
        assert await numbers.get_many(["3", "missing", "7"]) == {"3": 3, "7": 7}
        assert (caches.counts.hits, caches.counts.misses) == (2, 1)
        await numbers.delete("3", "7")
        assert await numbers.get_many(["3", "7", "8"]) == {"8": 8}
        await caches.invalidate("even more")
        assert await numbers.get_many(["8"]) == {}

    running(script)


def test_keys_tags_and_values_have_bounds() -> None:
    async def script(caches: Caches) -> None:
        texts = caches.open("texts", str, ttl=60)
        with pytest.raises(ValueError, match="too long"):
            await texts.get("k" * 1025)
        with pytest.raises(ValueError, match="too many"):
            await texts.get_many(["k"] * 1001)
        with pytest.raises(ValueError, match="16 tags at most"):
            await texts.set("k", "v", tags=list(map(str, range(17))))
        with pytest.raises(ValueError, match="16 tags at most"):
            await caches.invalidate("")
        with pytest.raises(ValueError, match="larger than a cache keeps"):
            await texts.set("k", "v" * 2000)
        with pytest.raises(ValueError, match="time to live"):
            await texts.set("k", "v", ttl=0)

        async def make() -> str:
            return "v" * 2000

        assert await texts.once("k", make) == "v" * 2000
        assert await texts.get("k") is None
        assert caches.counts.unkept == 1

    events: list[str] = []
    running(script, max_value_bytes=1000, report=lambda event, _error: events.append(event))
    assert events == ["too_large"]


def test_a_value_is_made_once_however_many_ask() -> None:
    async def script(caches: Caches) -> None:
        numbers, maker = plain(caches), Maker(seconds=0.02)
        assert await asyncio.gather(*(numbers.once("key", maker) for _ in range(50))) == [1] * 50
        assert await numbers.once("key", maker) == 1
        assert maker.made == 1
        assert caches.counts.hits + caches.counts.shared == 50

    running(script)


def test_what_one_caller_changes_no_other_sees() -> None:
    async def script(caches: Caches) -> None:
        lists = caches.open("lists", list[int], ttl=60)

        async def make() -> list[int]:
            await asyncio.sleep(0.01)
            return [1]

        first, second = await asyncio.gather(lists.once("key", make), lists.once("key", make))
        first.append(2)
        assert second == [1]
        assert await lists.get("key") == [1]

    running(script)


def test_what_make_raises_is_not_kept_and_the_next_one_tries_again() -> None:
    async def script(caches: Caches) -> None:
        numbers, maker = plain(caches), Maker(seconds=0.01, fails=ZeroDivisionError())
        outcomes = await asyncio.gather(*(numbers.once("key", maker) for _ in range(5)), return_exceptions=True)
        assert [type(one) for one in outcomes] == [ZeroDivisionError] * 5
        await caches.close()
        maker.fails = None
        assert await asyncio.wait_for(numbers.once("key", maker), 2) == 1

    running(script)


def test_when_the_maker_is_cancelled_another_makes_it() -> None:
    async def script(caches: Caches) -> None:
        numbers, maker = plain(caches), Maker(seconds=0.05)
        first = asyncio.create_task(numbers.once("key", maker))
        await asyncio.sleep(0.01)
        others = [asyncio.create_task(numbers.once("key", maker)) for _ in range(3)]
        await asyncio.sleep(0.01)
        first.cancel()
        assert await asyncio.wait_for(asyncio.gather(*others), 3) == [1] * 3
        assert maker.made == 1

    running(script)


def test_a_value_that_is_over_is_given_while_another_is_made_and_where_that_fails() -> None:
    clock = Clock()

    async def script(caches: Caches) -> None:
        numbers, maker = plain(caches, stale=50, making=30), Maker()
        assert await numbers.once("key", maker) == 1
        clock.now += 120
        assert await numbers.get("key") is None  # over: `get` gives no stale value
        maker.fails = RuntimeError("the database is away")
        assert await numbers.once("key", maker) == 1
        # The claim of the one that failed stands: nobody else tries for a while.
        maker.fails = None
        assert await numbers.once("key", maker) == 1
        assert maker.made == 1
        clock.now += 29.9
        assert await numbers.once("key", maker) == 1
        clock.now += 0.2
        assert await numbers.once("key", maker) == 2
        assert caches.counts.stale == 3

    events: list[str] = []
    running(script, clock=clock, report=lambda event, _error: events.append(event))
    assert events == ["make_failed"]


def test_an_answer_to_the_client_is_no_failure_that_an_old_value_may_cover() -> None:
    clock = Clock()

    async def script(caches: Caches) -> None:
        numbers, maker = plain(caches, stale=50), Maker()
        await numbers.once("key", maker)
        clock.now += 120
        maker.fails = NotFound("It was removed.")
        with pytest.raises(NotFound):
            await numbers.once("key", maker)

    running(script, clock=clock)


def test_a_dear_value_is_made_again_before_it_is_over_by_one() -> None:
    clock = Clock()

    async def script(caches: Caches) -> None:
        numbers, maker = plain(caches, early=100), Maker(seconds=0.02)
        assert await numbers.once("key", maker) == 1
        clock.now += 99.9
        # -0.02 * 100 * ln(1 - chance) is above 0.1 with a chance of 95 %.
        values = [await numbers.once("key", maker) for _ in range(20)]
        assert maker.made == 2
        assert values[-1] == 2
        assert caches.counts.early == 1
        assert caches.counts.misses == 1

    running(script, clock=clock)


def test_absence_is_kept_only_where_it_is_asked_for_and_for_its_own_time() -> None:
    clock = Clock()

    async def script(caches: Caches) -> None:
        names = caches.open("names", str, ttl=100, jitter=0, early=0)
        asked = 0
        answer: str | None = None

        async def make() -> str | None:
            nonlocal asked
            asked += 1
            return answer

        async def certain() -> str:
            return "made"

        for _ in range(3):
            assert await names.once_or_none("key", make, none_ttl=5) is None
        assert asked == 1
        assert await names.get("key") is None
        # Who cannot take None for an answer makes a value.
        assert await names.once("key", certain) == "made"
        assert await names.once_or_none("key", make, none_ttl=5) == "made"
        await names.delete("key")
        assert await names.once_or_none("key", make, none_ttl=5) is None
        answer = "there now"
        clock.now += 5.1
        assert await names.once_or_none("key", make, none_ttl=5) == "there now"
        clock.now += 50
        assert await names.once_or_none("key", make, none_ttl=5) == "there now"
        assert asked == 3

    running(script, clock=clock)


def test_none_is_a_value_like_others_where_the_type_says_so() -> None:
    async def script(caches: Caches) -> None:
        maybe: Cache[int | None] = caches.open("maybe", cast("Any", int | None), ttl=100)
        made = 0

        async def make() -> int | None:
            nonlocal made
            made += 1
            return None

        assert await maybe.once("key", make) is None
        assert await maybe.once("key", make) is None
        assert made == 1

    running(script)


@pytest.mark.parametrize("how", ["delete", "tag", "set"])
def test_what_was_read_before_a_change_is_not_kept_after_it(how: str) -> None:
    async def script(caches: Caches) -> None:
        numbers = plain(caches)
        row, reading, go_on = 1, asyncio.Event(), asyncio.Event()

        async def make() -> int:
            value = row
            reading.set()
            await go_on.wait()
            return value

        slow = asyncio.create_task(numbers.once("key", make, tags=["rows"]))
        await reading.wait()
        row = 2
        if how == "delete":
            await numbers.delete("key")
        elif how == "tag":
            await caches.invalidate("rows")
        else:
            await numbers.set("key", 2)
        # One that asks now may join the making that is under way, but not take the old value from it.
        later = asyncio.create_task(numbers.once("key", make, tags=["rows"]))
        await asyncio.sleep(0.02)
        go_on.set()
        assert await slow == 1
        assert await asyncio.wait_for(later, 3) == 2
        assert await numbers.once("key", make, tags=["rows"]) == 2

    running(script)


def test_a_value_that_another_process_made_since_the_look_is_not_made_again() -> None:
    class LooksTooEarly(MemoryCache):
        async def get(self, keys: Any) -> Any:
            return [None for _ in keys]

    async def main() -> None:
        store = LooksTooEarly()
        numbers, maker = plain(Caches(store)), Maker()
        await numbers.set("key", 7)
        assert await numbers.once("key", maker) == 7
        assert maker.made == 0
        # And the claim was given back.
        await asyncio.sleep(0)
        assert (await store.claim("numbers:1:key", (), token=b"another process!", seconds=1)).claim is not None

    asyncio.run(main())


def test_near_values_ask_nobody_until_this_process_changes_them_or_their_moment_is_over() -> None:
    async def script(caches: Caches) -> None:
        store = caches._gate.store
        numbers, others = plain(caches), plain(Caches(store))
        await numbers.set_many({"a": 1, "b": 1, "c": 1}, tags=["t"])
        assert await numbers.get_many(["a", "b", "c"]) == {"a": 1, "b": 1, "c": 1}
        await others.set_many({"a": 2, "b": 2, "c": 2})
        assert await numbers.get_many(["a", "b", "c"]) == {"a": 1, "b": 1, "c": 1}
        await numbers.delete("a")
        await numbers.set("b", 3)
        assert await numbers.get_many(["a", "b", "c"]) == {"b": 3, "c": 1}
        await caches.invalidate("some other tag")
        assert await numbers.get("c") == 2
        await others.set("c", 4)
        await asyncio.sleep(0.35)
        assert await numbers.get("c") == 4

    running(script, near=Near(seconds=0.3))


def test_a_read_that_began_before_a_deletion_leaves_nothing_near() -> None:
    class Slow(MemoryCache):
        async def get(self, keys: Any) -> Any:
            found = await super().get(keys)
            await asyncio.sleep(0.05)
            return found

    async def main() -> None:
        store = Slow()
        caches = Caches(store, near=Near(seconds=30))
        numbers = plain(caches)
        await numbers.set("key", 1)
        reading = asyncio.create_task(numbers.get("key"))
        await asyncio.sleep(0.01)
        await numbers.delete("key")
        assert await reading == 1
        assert await numbers.get("key") is None

    asyncio.run(main())


def test_foreign_bytes_in_the_store_are_a_miss() -> None:
    async def script(caches: Caches) -> None:
        numbers = plain(caches)
        store = caches._gate.store
        for data in (b"", b"short", b"\xff" * 40):
            await store.set([CacheEntry("numbers:1:key", data, 60)])
            assert await numbers.get("key") is None
        assert await numbers.once("key", Maker()) == 1

    running(script)
