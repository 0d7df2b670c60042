"""API keys as a way to prove who calls: what is taken, what a refusal costs, and how long a revoked key works."""

import asyncio
import gc
import time

import pytest

from tests.identity.keys_kit import Clock, Watched, refused, shown
from workhorse.errors import StoreUnavailable
from workhorse.identity import ApiKeys, Credentials, Identity, KeyText, NotAuthenticated
from workhorse.identity.api_keys import MAX_LOOKUPS, MAX_WAITING
from workhorse.identity.key_text import checksum
from workhorse.principal import ANONYMOUS, Kind

TEXT = KeyText()


# Who calls


def test_a_key_says_who_calls_and_what_for() -> None:
    async def main() -> None:
        async with Identity(keys := ApiKeys(Watched())) as identity:
            ends = time.time() + 3600
            key = await keys.create("payroll", name="batch", scopes=["a", "b", "a"], tenant="bank", expires=ends)
            assert identity.recall(shown(key), time.time()) is None
            principal = await identity.verify(shown(key), time.time())
            assert (principal.subject, principal.kind, set(principal.scopes)) == ("payroll", Kind.KEY, {"a", "b"})
            assert (principal.tenant, principal.expires, principal.credential) == ("bank", ends, key.record.prefix)
            assert identity.recall(shown(key), time.time()) is principal
            as_authorization = Credentials(authorization=b"apikey  " + key.text.encode())
            assert identity.recall(as_authorization, time.time()) is principal

    asyncio.run(main())


def test_the_key_itself_is_kept_nowhere() -> None:
    async def main() -> None:
        store = Watched()
        keys = ApiKeys(store)
        key = await keys.create("payroll", name="batch")
        await keys.verify(shown(key), time.time())
        secret = key.text[16:]
        assert secret not in repr(key)
        assert secret not in repr(await store.list("payroll"))
        held = [one for one in gc.get_objects() if type(one) is dict and key.text.encode() in one]
        assert held == []
        await keys.close()

    asyncio.run(main())


def test_a_request_without_a_key_is_nobodys_and_bearer_tokens_are_left_alone() -> None:
    async def main() -> None:
        store = Watched()
        async with Identity(keys := ApiKeys(store)) as identity:
            key = await keys.create("payroll", name="batch")
            assert identity.recall(Credentials(), time.time()) is ANONYMOUS
            assert not keys.presents(Credentials(authorization=b"Bearer " + key.text.encode()))
            with pytest.raises(NotAuthenticated) as caught:
                await identity.verify(Credentials(authorization=b"Bearer " + key.text.encode()), time.time())
            assert caught.value.reason == "scheme"
            assert store.asked == []

    asyncio.run(main())


def test_a_key_in_both_headers_is_refused_even_when_it_is_known() -> None:
    async def main() -> None:
        async with Identity(keys := ApiKeys(Watched())):
            key = await keys.create("payroll", name="batch")
            await keys.verify(shown(key), time.time())
            both = Credentials(authorization=b"ApiKey " + key.text.encode(), api_key=key.text.encode())
            assert keys.recall(both, time.time()) is None
            assert await refused(keys, both) == "ambiguous"

    asyncio.run(main())


@pytest.mark.parametrize(
    "key",
    ["", "wh", "secret", "wh_4mT9kQ2xBv7a_short", TEXT.new().text[:-1] + "!", TEXT.new().text + "x", "x" * 9_000],
    ids=["empty", "brand", "a word", "short", "another character", "one more character", "9 kB"],
)
def test_a_malformed_key_is_refused_without_asking_the_store(key: str) -> None:
    async def main() -> None:
        store = Watched()
        keys = ApiKeys(store)
        assert await refused(keys, shown(key)) == "malformed"
        assert store.asked == []

    asyncio.run(main())


def test_a_right_prefix_with_another_secret_is_unknown() -> None:
    async def main() -> None:
        async with Identity(keys := ApiKeys(Watched())):
            key = await keys.create("payroll", name="batch")
            body = key.record.prefix + "_" + TEXT.new().text[16:59]
            assert await refused(keys, shown(body + checksum(body.encode()))) == "unknown"
            assert (await keys.verify(shown(key), time.time())).subject == "payroll"

    asyncio.run(main())


def test_an_expired_key_is_refused_also_while_it_is_remembered() -> None:
    async def main() -> None:
        async with Identity(keys := ApiKeys(Watched())):
            now = time.time()
            key = await keys.create("payroll", name="batch", expires=now + 60)
            await keys.verify(shown(key), now + 59.9)
            assert keys.recall(shown(key), now + 59.9) is not None
            assert keys.recall(shown(key), now + 60.1) is None
            assert await refused(keys, shown(key), now + 60.1) == "expired"

    asyncio.run(main())


# How long a revoked key works


def test_a_revoked_key_works_in_another_process_for_known_seconds_and_here_not_at_all() -> None:
    async def main() -> None:
        store, clock = Watched(), Clock()
        here, there = ApiKeys(store, clock=clock), ApiKeys(store, clock=clock)
        key = await here.create("payroll", name="batch")
        for keys in (here, there):
            await keys.verify(shown(key), time.time())
        assert await here.revoke(key.record.prefix)
        assert here.recall(shown(key), time.time()) is None
        assert await refused(here, shown(key)) == "revoked"
        clock.now += 4.99
        assert there.recall(shown(key), time.time()) is not None
        clock.now += 0.02
        assert there.recall(shown(key), time.time()) is None
        assert await refused(there, shown(key)) == "revoked"
        for keys in (here, there):
            await keys.close()

    asyncio.run(main())


def test_a_look_up_that_a_revocation_overtakes_is_not_remembered() -> None:
    async def main() -> None:
        store = Watched()
        keys = ApiKeys(store)
        key = await keys.create("payroll", name="batch")
        slow = store.gate = asyncio.Event()
        looking = asyncio.create_task(keys.verify(shown(key), time.time()))
        await asyncio.sleep(0.01)  # it has read the row, and has not heard of it yet
        store.gate = asyncio.Event()
        store.gate.set()
        assert await keys.revoke(key.record.prefix)
        slow.set()
        assert (await looking).subject == "payroll"
        assert keys.recall(shown(key), time.time()) is None
        assert await refused(keys, shown(key)) == "revoked"
        await keys.close()

    asyncio.run(main())


def test_with_nothing_remembered_the_store_is_asked_each_time() -> None:
    async def main() -> None:
        store = Watched()
        async with Identity(keys := ApiKeys(store, known_seconds=0)):
            key = await keys.create("payroll", name="batch")
            for _ in range(3):
                await keys.verify(shown(key), time.time())
            assert len(store.asked) == 3

    asyncio.run(main())


def test_more_keys_than_are_noted_as_ended_end_all_the_same() -> None:
    async def main() -> None:
        store = Watched()
        async with Identity(keys := ApiKeys(store)):
            made = [await keys.create("payroll", name="batch") for _ in range(1_100)]
            for key in made:
                await keys.verify(shown(key), time.time())
            for key in made:
                await keys.revoke(key.record.prefix)
            assert not any(keys.recall(shown(key), time.time()) for key in made)

    asyncio.run(main())


# What guessing costs


def test_a_refused_key_is_asked_for_once_and_anew_after_known_seconds() -> None:
    async def main() -> None:
        store, clock = Watched(), Clock()
        keys = ApiKeys(store, clock=clock)
        guess = shown(TEXT.new().text)
        assert [await refused(keys, guess) for _ in range(5)] == ["unknown"] * 5
        assert len(store.asked) == 1
        clock.now += 5.01
        assert await refused(keys, guess) == "unknown"
        assert len(store.asked) == 2

    asyncio.run(main())


def test_guesses_push_no_good_key_out() -> None:
    async def main() -> None:
        store = Watched()
        async with Identity(keys := ApiKeys(store, max_known=8)):
            key = await keys.create("payroll", name="batch")
            await keys.verify(shown(key), time.time())
            for _ in range(100):
                await refused(keys, shown(TEXT.new().text))
            assert keys.recall(shown(key), time.time()) is not None

    asyncio.run(main())


def test_a_flood_of_guesses_has_a_few_look_ups_at_a_time_and_those_who_were_good_pass_it_by() -> None:
    async def main() -> None:
        store, clock = Watched(), Clock()
        keys = ApiKeys(store, clock=clock)
        good = await keys.create("payroll", name="batch")
        await keys.verify(shown(good), time.time())
        clock.now += 60
        store.asked.clear()
        store.gate.clear()
        guesses = [asyncio.create_task(refused(keys, shown(TEXT.new().text))) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0.02)
        assert len(store.asked) == MAX_LOOKUPS
        with pytest.raises(StoreUnavailable, match="Too many unknown API keys"):
            await keys.verify(shown(TEXT.new().text), time.time())
        passing = asyncio.create_task(keys.verify(shown(good), time.time()))
        await asyncio.sleep(0.02)
        assert store.asked[MAX_LOOKUPS:] == [good.record.prefix]
        store.gate.set()
        assert (await passing).subject == "payroll"
        assert set(await asyncio.gather(*guesses)) == {"unknown"}
        await keys.close()

    asyncio.run(main())


def test_requests_with_one_key_share_one_look_up_and_one_that_gives_up_ends_none() -> None:
    async def main() -> None:
        store = Watched()
        async with Identity(keys := ApiKeys(store)):
            key = await keys.create("payroll", name="batch")
            store.gate.clear()
            asking = [asyncio.create_task(keys.verify(shown(key), time.time())) for _ in range(50)]
            await asyncio.sleep(0.01)
            asking[0].cancel()
            await asyncio.sleep(0)
            store.gate.set()
            answers = await asyncio.gather(*asking, return_exceptions=True)
            assert isinstance(answers[0], asyncio.CancelledError)
            assert {getattr(answer, "subject", None) for answer in answers[1:]} == {"payroll"}
            assert store.asked == [key.record.prefix]

    asyncio.run(main())


def test_while_the_store_is_away_nobody_is_refused_for_good() -> None:
    async def main() -> None:
        store = Watched()
        async with Identity(keys := ApiKeys(store)):
            key = await keys.create("payroll", name="batch")
            store.away = True
            with pytest.raises(StoreUnavailable):
                await keys.verify(shown(key), time.time())
            store.away = False
            assert (await keys.verify(shown(key), time.time())).subject == "payroll"

    asyncio.run(main())


def test_closing_lets_nobody_wait() -> None:
    async def main() -> None:
        store = Watched()
        keys = ApiKeys(store)
        store.gate.clear()
        asking = asyncio.create_task(keys.verify(shown(TEXT.new().text), time.time()))
        await asyncio.sleep(0.01)
        await keys.close()
        with pytest.raises(StoreUnavailable):
            await asking

    asyncio.run(main())
