"""Login throttling: the attacker is slowed down, and the owner of the account gets in."""

import asyncio
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.state.counters_kit import Place, VirtualTime, opened
from workhorse.contracts import CounterStore
from workhorse.embedded import Attachment
from workhorse.errors import SettingsError
from workhorse.identity import DeviceCookie, LoginThrottle, TooManyAttempts
from workhorse.identity.device_cookie import DeviceCookies
from workhorse.networks import network_of
from workhorse.problems import render_problem
from workhorse.state.memory.counters import MemoryCounters
from workhorse.telemetry.log import Log

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
HOME = "198.51.100.7"
SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR


class Bank:
    """A bank that a user logs in to, and a clock that a test moves."""

    def __init__(self, **options: Any) -> None:
        self.time = VirtualTime(1_800_000_000 * SECOND)
        self.counters = MemoryCounters(clock=self.time)
        options = {"key": KEY, "clock": lambda: self.time.now_us / 1e6, **options}
        self.throttle = LoginThrottle(self.counters, **options)

    async def fails(self, account: str, address: str, cookie: str | bytes | None = None) -> bool:
        """Whether an attempt with a wrong password is let in."""
        try:
            attempt = await self.throttle.admit(account, address, cookie)
        except TooManyAttempts:
            return False
        await attempt.failed()
        return True

    async def logs_in(self, account: str, address: str, cookie: str | bytes | None = None) -> DeviceCookie:
        return await (await self.throttle.admit(account, address, cookie)).succeeded()


def botnet() -> Iterator[str]:
    """Ever other addresses, each in a network of its own."""
    return (f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1" for number in range(2**32))


# The stories


def test_an_attacker_with_many_addresses_does_not_keep_the_owner_out() -> None:
    async def main() -> None:
        bank = Bank()
        cookie = await bank.logs_in("alice", HOME)
        elsewhere = botnet()
        guesses = [await bank.fails("alice", next(elsewhere)) for _ in range(100)]
        assert sum(guesses) < 10
        with pytest.raises(TooManyAttempts):  # a new device of the owner's has to wait
            await bank.throttle.admit("alice", "203.0.113.5")
        assert (await bank.throttle.admit("alice", HOME, cookie.value)).known_device

    asyncio.run(main())


def test_an_attacker_behind_the_owners_own_address_does_not_keep_the_owner_out() -> None:
    async def main() -> None:
        bank = Bank()
        cookie = await bank.logs_in("alice", HOME)
        for number in range(200):
            await bank.fails(f"user-{number}", HOME)
            await bank.fails("alice", HOME)
        assert not await bank.fails("bob", HOME)
        assert (await bank.throttle.admit("alice", HOME, cookie.value)).known_device

    asyncio.run(main())


def test_one_address_cannot_try_many_accounts() -> None:
    async def main() -> None:
        bank = Bank()
        tried = [await bank.fails(f"user-{number}", f"2001:db8:1:2::{number:x}") for number in range(500)]
        assert sum(tried) == 30
        assert await bank.fails("user-501", "2001:db8:1:3::1")

    asyncio.run(main())


def test_a_patient_attacker_has_fewer_guesses_than_the_standard_allows() -> None:
    async def main() -> None:
        bank = Bank()
        guessed = 0
        elsewhere = botnet()
        for _ in range(24 * 60):  # two months, an attempt every hour and from everywhere
            guessed += await bank.fails("alice", next(elsewhere))
            bank.time.now_us += HOUR
        assert 50 <= guessed < 60

    asyncio.run(main())


def test_a_stolen_cookie_gives_a_bounded_number_of_guesses_too() -> None:
    async def main() -> None:
        bank = Bank()
        cookie = await bank.logs_in("alice", HOME)
        guessed = 0
        for _ in range(24 * 60):
            guessed += await bank.fails("alice", "203.0.113.5", cookie.value)
            bank.time.now_us += HOUR
        assert 40 <= guessed < 50

    asyncio.run(main())


def test_the_pauses_grow_from_seconds_to_days_and_who_waits_as_told_is_let_in() -> None:
    async def main() -> list[int]:
        bank = Bank()
        waits: list[int] = []
        for _ in range(55):
            wait = 0
            if not await bank.fails("alice", HOME):
                with pytest.raises(TooManyAttempts) as refused:
                    await bank.throttle.admit("alice", HOME)
                wait = refused.value.retry_after_seconds
                bank.time.now_us += wait * SECOND
                assert await bank.fails("alice", HOME)
            waits.append(wait)
        return waits

    waits = asyncio.run(main())
    assert waits[:6] == [0, 0, 0, 0, 0, 12]
    assert 200 < waits[20] <= 240
    assert 2_000 < waits[40] <= 2_880
    assert 6 * 86_400 < waits[54] <= 8 * 86_400


def test_a_user_who_mistypes_and_then_logs_in_is_not_held_up_the_next_time() -> None:
    async def main() -> None:
        bank = Bank()
        cookie = await bank.logs_in("alice", HOME)
        for _ in range(30):
            for _ in range(4):
                assert await bank.fails("alice", HOME, cookie.value)
            cookie = await bank.logs_in("alice", HOME, cookie.value)

    asyncio.run(main())


def test_a_login_from_a_known_device_ends_the_failures_in_a_row_and_gives_the_attacker_no_new_burst() -> None:
    async def main() -> None:
        bank = Bank(account=["10/minute", "40/day"], failures="12/365 days")
        cookie = await bank.logs_in("alice", HOME)
        elsewhere = botnet()
        assert sum([await bank.fails("alice", next(elsewhere)) for _ in range(20)]) == 9
        await bank.logs_in("alice", HOME, cookie.value)
        assert sum([await bank.fails("alice", next(elsewhere)) for _ in range(20)]) == 0
        bank.time.now_us += HOUR
        assert sum([await bank.fails("alice", next(elsewhere)) for _ in range(20)]) == 10

    asyncio.run(main())


def test_the_attackers_own_account_gives_no_new_attempts() -> None:
    async def main() -> None:
        bank = Bank()
        tried = 0
        for number in range(60):
            tried += await bank.fails(f"user-{number}", HOME)
            if number < 5:
                await bank.logs_in("mallory", HOME)
        assert tried == 25

    asyncio.run(main())


def test_many_attempts_at_the_same_moment_are_no_more_than_one_after_the_other() -> None:
    async def main() -> None:
        bank = Bank()
        tried = await asyncio.gather(*(bank.fails("alice", HOME) for _ in range(100)))
        assert sum(tried) == 5

    asyncio.run(main())


def test_an_owner_whose_password_was_reset_gets_in_from_a_new_and_an_old_device() -> None:
    async def main() -> None:
        bank = Bank()
        cookie = await bank.logs_in("alice", HOME)
        elsewhere = botnet()
        for _ in range(300):
            await bank.fails("alice", next(elsewhere))
            await bank.fails("alice", HOME, cookie.value)
            bank.time.now_us += HOUR
        assert not await bank.fails("alice", "203.0.113.5")
        assert not await bank.fails("alice", HOME, cookie.value)
        await bank.throttle.forgive(" ALICE ", cookie.value)
        assert await bank.fails("alice", "203.0.113.5")
        assert await bank.fails("alice", HOME, cookie.value)

    asyncio.run(main())


def test_an_attempt_tells_how_long_the_next_one_has_to_wait() -> None:
    async def main() -> None:
        bank = Bank()
        waits = [await (await bank.throttle.admit("alice", HOME)).failed() for _ in range(5)]
        assert waits == [0, 0, 0, 0, 12]
        bank.time.now_us += 12 * SECOND
        assert (await bank.throttle.admit("alice", HOME)).next_seconds == 12

    asyncio.run(main())


# What is told, and what is kept


def test_the_answer_does_not_tell_whether_there_is_such_an_account() -> None:
    async def refusal(account: str) -> bytes:
        bank = Bank()
        if account == "alice":
            await bank.logs_in("alice", "203.0.113.9")
            bank.time.now_us += DAY
        while await bank.fails(account, HOME):
            pass
        with pytest.raises(TooManyAttempts) as caught:
            await bank.throttle.admit(account, HOME)
        assert caught.value.headers == ((b"retry-after", b"12"),)
        return render_problem(caught.value).body

    real, made_up = asyncio.run(refusal("alice")), asyncio.run(refusal("nobody"))
    assert real == made_up
    assert json.loads(real)["status"] == 429
    assert b"alice" not in real


def test_no_counter_and_no_log_line_names_an_account_or_an_address(tmp_path: Path) -> None:
    async def main(log: Log) -> str:
        bank = Bank(log=log)
        cookie = await bank.logs_in("alice", HOME)
        for _ in range(8):
            await bank.fails("alice", HOME)
            await bank.fails("alice", HOME, cookie.value)
        return repr(bank.counters._cells._parts)

    path = tmp_path / "log"
    with path.open("wb") as stream:
        log = Log(stream.fileno())
        kept = asyncio.run(main(log))
        log.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {(line["event"], line["known_device"]) for line in lines} == {
        ("login.failed", True),
        ("login.failed", False),
        ("login.throttled", True),
        ("login.throttled", False),
    }
    for secret in ("alice", HOME):
        assert secret not in kept + path.read_text()
    assert "login:failures0:" in kept


def test_one_account_has_one_budget_however_it_is_spelled() -> None:
    async def main() -> None:
        bank = Bank()
        spellings = ["alice", "ALICE", " Alice ", "alice\n", "\uff41lice", "aLiCe"]
        assert [await bank.fails(name, HOME) for name in spellings] == [True] * 5 + [False]
        assert await bank.fails("alice2", HOME)
        for name in ("", "\0", "\ud800", "a" * 100_000):
            assert await bank.fails(name, HOME)

    asyncio.run(main())


def test_an_address_and_an_account_are_not_mistaken_for_another_pair() -> None:
    async def main() -> None:
        bank = Bank(account=["1000/minute"], network=["1000/minute"], account_network=["1/minute"])
        for address, account in (("bc", "a"), ("c", "ab"), ("c", "a\0b"), ("b\0c", "a")):
            assert await bank.fails(account, address)

    asyncio.run(main())


# Cookies


def test_a_cookie_is_good_for_its_account_and_its_time_only() -> None:
    async def main() -> None:
        bank = Bank(lifetime_seconds=7_200)
        cookie = (await bank.logs_in("alice", HOME)).value
        assert (await bank.throttle.admit("Alice", "203.0.113.5", cookie)).known_device
        assert (await bank.throttle.admit("alice", HOME, cookie.encode())).known_device
        assert not (await bank.throttle.admit("bob", HOME, cookie)).known_device
        bank.time.now_us += 7_199 * SECOND
        assert (await bank.throttle.admit("alice", HOME, cookie)).known_device
        bank.time.now_us += SECOND
        assert not (await bank.throttle.admit("alice", HOME, cookie)).known_device

    asyncio.run(main())


def test_each_login_gives_another_cookie_and_each_cookie_has_a_budget_of_its_own() -> None:
    async def main() -> None:
        bank = Bank()
        first = (await bank.logs_in("alice", HOME)).value
        second = (await bank.logs_in("alice", HOME, first)).value
        assert first != second
        assert sum([await bank.fails("alice", HOME, first) for _ in range(9)]) == 5
        assert await bank.fails("alice", HOME, second)

    asyncio.run(main())


def test_a_cookie_header_keeps_it_from_scripts_other_hosts_and_plain_http() -> None:
    async def main() -> None:
        cookie = await Bank().logs_in("alice", HOME)
        name, value = cookie.header
        assert name == b"set-cookie"
        assert value == (
            f"__Host-device={cookie.value}; Max-Age=15552000; Path=/; Secure; HttpOnly; SameSite=Lax".encode()
        )
        assert len(cookie.value) == 80
        assert cookie.value not in repr(cookie)

    asyncio.run(main())


def test_a_cookie_of_an_old_key_is_taken_until_the_key_is_taken_out() -> None:
    old = DeviceCookies([OTHER_KEY], lifetime_seconds=7_200).new(b"alice", now=0)
    both = DeviceCookies([KEY, OTHER_KEY], lifetime_seconds=7_200)
    assert both.device_of(old.value, b"alice", now=1) is not None
    assert DeviceCookies([KEY], lifetime_seconds=7_200).device_of(old.value, b"alice", now=1) is None
    assert DeviceCookies([KEY], lifetime_seconds=7_200).device_of(both.new(b"alice", now=0).value, b"alice", now=1)


def test_a_cookie_that_was_made_for_longer_than_is_now_taken_is_unknown() -> None:
    long = DeviceCookies([KEY], lifetime_seconds=360_000).new(b"alice", now=0)
    assert DeviceCookies([KEY], lifetime_seconds=3_600).device_of(long.value, b"alice", now=1) is None


@given(
    st.one_of(
        st.binary(max_size=120), st.text(max_size=120), st.binary(min_size=60, max_size=60).map(urlsafe_b64encode)
    )
)
def test_no_made_up_cookie_fails_or_is_known(cookie: bytes | str) -> None:
    assert DeviceCookies([KEY], lifetime_seconds=3_600).device_of(cookie, b"alice", now=time.time()) is None


@given(place=st.integers(0, 59), change=st.integers(1, 255))
def test_no_changed_cookie_is_known(place: int, change: int) -> None:
    cookies = DeviceCookies([KEY], lifetime_seconds=3_600)
    raw = bytearray(urlsafe_b64decode(cookies.new(b"alice", now=1_000).value))
    assert cookies.device_of(urlsafe_b64encode(raw), b"alice", now=1_001) is not None
    raw[place] ^= change
    assert cookies.device_of(urlsafe_b64encode(raw), b"alice", now=1_001) is None


def test_a_cookie_that_is_spelled_differently_is_not_known() -> None:
    cookies = DeviceCookies([KEY], lifetime_seconds=3_600)
    made = (cookies.new(b"alice", now=1_000).value for _ in range(10_000))
    value = next(value for value in made if "-" in value and "_" in value)
    for other in (value.replace("-", "+"), value.replace("_", "/"), value[:-1] + "!", value[:-1] + "="):
        assert cookies.device_of(other, b"alice", now=1_001) is None


@given(left=st.text(max_size=20), right=st.text(max_size=20))
def test_no_cookie_of_one_account_is_good_for_another(left: str, right: str) -> None:
    cookies = DeviceCookies([KEY], lifetime_seconds=3_600)
    value = cookies.new(left.encode(), now=1_000).value
    assert (cookies.device_of(value, right.encode(), now=1_001) is not None) == (left == right)


def test_a_cookie_that_is_no_longer_known_is_an_unknown_device_and_not_an_error() -> None:
    async def main() -> None:
        bank = Bank()
        for cookie in ("", "x" * 80, "é" * 80, b"\xff" * 80, "A" * 10_000, "\ud800" * 80, None):
            assert not (await bank.throttle.admit(uuid4().hex, HOME, cookie)).known_device

    asyncio.run(main())


# On a real server


@pytest.mark.parametrize("backend", ["redis", "lending-over-redis"])
def test_processes_that_share_a_server_count_together(servers: Attachment, backend: str) -> None:
    place = Place(servers.cache_url, "", f"test:{uuid4().hex}:")

    async def tried(counters: CounterStore, *others: CounterStore) -> None:
        throttles = [LoginThrottle(one, key=KEY) for one in (counters, *others)]
        cookie = await (await throttles[0].admit("alice", HOME)).succeeded()
        refused: list[int] = []
        for turn in range(20):
            try:
                await (await throttles[turn % 2].admit("alice", "203.0.113.5")).failed()
            except TooManyAttempts as error:
                refused.append(error.retry_after_seconds)
        assert 15 <= len(refused) < 20
        assert set(refused) <= set(range(1, 13))
        assert (await throttles[1].admit("alice", HOME, cookie.value)).known_device

    async def main() -> None:
        async with opened(backend, place) as one, opened(backend, place) as other:
            await tried(one, other)

    asyncio.run(main())


# Settings


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"key": b"short"}, "has 5 bytes"),
        ({"old_keys": [KEY]}, "different ones"),
        ({"old_keys": [b"short"]}, "key 2 of the login throttle has 5 bytes"),
        ({"lifetime_seconds": 60}, "an hour to ten years"),
        ({"device": []}, "`device` has 0 rates"),
        ({"network": ["1/second"] * 6}, "`network` has 6 rates"),
        ({"account": ["often"]}, "not LIMIT/PERIOD"),
        ({"failures": "0/day"}, "not LIMIT/PERIOD"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        Bank(**options)


def test_as_many_rates_as_fit_are_taken_from_in_one_step() -> None:
    five = ["5/second", "50/minute", "100/hour", "200/day", "300/7 days"]
    bank = Bank(device=five, account=five, account_network=five, network=five)
    assert asyncio.run(bank.fails("alice", HOME))


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:0db8:0001:0002::/64"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("fe80::1%eth0", "fe80:0000:0000:0000::/64"),
        ("not:an:address", "not:an:address"),
        ("", ""),
    ],
)
def test_an_address_is_counted_by_its_network(address: str, network: str) -> None:
    assert network_of(address) == network
