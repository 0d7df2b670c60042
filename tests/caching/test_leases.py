"""A lease is held while its block runs: renewed, released, and told when it is lost."""

import asyncio
import time

import pytest

from tests.state.cache_kit import OwnValkey, redis_client
from workhorse.caching import Lease, Leases
from workhorse.context import CURRENT, RequestContext
from workhorse.contracts import LeaseAnswer, LeaseHeld, LeaseLost
from workhorse.errors import StoreUnavailable
from workhorse.state.memory.lease import MemoryLeases
from workhorse.state.redis.lease import RedisLeases


class Flaky(MemoryLeases):
    """Forgets, or does not answer, when it is told to."""

    away = False
    silent = False

    async def renew(self, name: str, holder: bytes, *, seconds: float) -> bool:
        if self.silent:
            await asyncio.sleep(60)
        if self.away:
            raise StoreUnavailable
        return await super().renew(name, holder, seconds=seconds)

    def forget(self) -> None:
        self._held.clear()


async def enter(leases: Leases, name: str = "name", wait: float = 0) -> int:
    async with leases.hold(name, wait=wait) as lease:
        return lease.token


def test_it_is_held_for_as_long_as_the_block_runs_and_then_free() -> None:
    async def main() -> None:
        leases = Leases(MemoryLeases())
        async with leases.hold("name", ttl=0.6) as lease:
            await asyncio.sleep(1.3)
            lease.check()
            left_seconds = lease.left_seconds
            with pytest.raises(LeaseHeld, match="somebody else has the lease 'name'"):
                await enter(leases)
        assert 0 < left_seconds <= 0.6
        assert lease.left_seconds == 0
        assert await enter(leases) > lease.token

    asyncio.run(main())


def test_the_holder_gives_up_a_twentieth_before_the_store_does() -> None:
    async def main() -> tuple[float, float]:
        store = MemoryLeases()
        async with Leases(store).hold("name", ttl=30) as lease:
            return lease.left_seconds, (await store.acquire("name", b"another", seconds=1)).left_seconds

    here, there = asyncio.run(main())
    assert 20 < here < 28.51
    assert there - here == pytest.approx(1.5, abs=0.2)


def test_an_exception_of_the_block_passes_and_the_lease_is_free() -> None:
    async def main() -> None:
        leases = Leases(MemoryLeases())
        with pytest.raises(ZeroDivisionError):
            async with leases.hold("name"):
                raise ZeroDivisionError
        async with leases.hold("name"):
            pass

    asyncio.run(main())


def test_who_waits_gets_it_when_it_is_free() -> None:
    async def main() -> None:
        leases = Leases(MemoryLeases())
        order: list[int] = []

        async def one(number: int) -> None:
            async with leases.hold("name", wait=20):
                order.append(number)
                await asyncio.sleep(0.02)
                order.append(number)

        await asyncio.gather(*map(one, range(4)))
        assert order[::2] == order[1::2]
        assert sorted(order[::2]) == [0, 1, 2, 3]

    asyncio.run(main())


def test_nobody_waits_for_longer_than_said_nor_than_its_request_has_time() -> None:
    async def main() -> None:
        leases = Leases(MemoryLeases())
        async with leases.hold("name"):
            for wait in (0.15, 60):
                if wait == 60:
                    request = RequestContext()
                    request.deadline = time.monotonic() + 0.15
                    CURRENT.set(request)
                began = time.monotonic()
                with pytest.raises(LeaseHeld):
                    await enter(leases, wait=wait)
                assert 0.1 < time.monotonic() - began < 3

    asyncio.run(main())


@pytest.mark.parametrize("how", ["forgotten", "away", "silent"])
def test_a_block_whose_lease_is_lost_is_cancelled_and_told(how: str) -> None:
    async def main() -> None:
        store = Flaky()
        leases = Leases(store)
        began = time.monotonic()
        steps = []

        async def block() -> None:
            async with leases.hold("name", ttl=0.6):
                if how == "forgotten":
                    store.forget()
                store.away, store.silent = how == "away", how == "silent"
                steps.append("before")
                await asyncio.sleep(30)
                steps.append("after")

        with pytest.raises(LeaseLost, match="may have been done by another"):
            await block()
        assert steps == ["before"]
        assert time.monotonic() - began < 5
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)  # nothing is left to hit us

    asyncio.run(main())


def test_a_block_that_asked_to_be_told_goes_on_and_its_check_fails() -> None:
    async def main() -> None:
        store = Flaky()
        async with Leases(store).hold("name", ttl=0.3, on_loss="tell") as lease:
            store.forget()
            await asyncio.wait_for(lease.wait_lost(), 10)
            assert lease.left_seconds == 0
            with pytest.raises(LeaseLost, match="token 1"):
                lease.check()
            went_on = True
        assert went_on

    asyncio.run(main())


def test_an_outage_shorter_than_the_lease_is_survived() -> None:
    async def main() -> None:
        store = Flaky()
        async with Leases(store).hold("name", ttl=1.5) as lease:
            store.away = True
            await asyncio.sleep(0.8)
            store.away = False
            await asyncio.sleep(1.2)
            lease.check()

    asyncio.run(main())


def test_who_is_cancelled_from_outside_is_cancelled_and_the_lease_is_free() -> None:
    async def main() -> None:
        leases = Leases(MemoryLeases())
        entered = asyncio.Event()

        async def block() -> None:
            async with leases.hold("name"):
                entered.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(block())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with leases.hold("name"):
            pass

    asyncio.run(main())


def test_who_gives_up_while_the_store_answers_leaves_no_lease_behind() -> None:
    class Slow(MemoryLeases):
        async def acquire(self, name: str, holder: bytes, *, seconds: float) -> LeaseAnswer:
            answer = await super().acquire(name, holder, seconds=seconds)
            await asyncio.sleep(0.1)
            return answer

    async def main() -> None:
        leases = Leases(Slow())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), leases.hold("name"):
                pass
        async with leases.hold("name"):
            pass

    asyncio.run(main())


def test_a_block_that_ends_just_as_its_lease_is_lost_is_told_and_nothing_later_is_hit() -> None:
    async def main() -> tuple[int, int]:
        store = Flaky()
        told = ended = 0
        for delay in (0.094, 0.097, 0.1, 0.103, 0.106) * 3:
            try:
                async with Leases(store).hold(f"name {delay}", ttl=0.3):
                    store.forget()
                    ends = time.monotonic() + delay
                    while time.monotonic() < ends:
                        await asyncio.sleep(0)
                ended += 1
            except LeaseLost:
                told += 1
            await asyncio.sleep(0.001)
        return told, ended

    told, ended = asyncio.run(main())
    assert told + ended == 15
    assert told > 0


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"name": "a\nb"}, {"name": "n" * 201}, {"ttl": 0.01}, {"ttl": 4000}, {"wait": -1}], ids=str
)
def test_a_name_or_time_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    given: dict[str, object] = {"name": "name", **wrong}
    with pytest.raises(ValueError, match="lease"):
        Leases(MemoryLeases()).hold(**given)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_holder_whose_server_freezes_gives_up_before_the_server_lets_another_have_it(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async def main() -> None:
        with OwnValkey(tmp_path_factory.mktemp("v")) as server:
            async with redis_client(server.url, timeout_seconds=0.3) as client:
                leases = Leases(RedisLeases(client, timeout_seconds=0.3))
                held: list[Lease] = []

                async def block() -> None:
                    async with leases.hold("name", ttl=1.5) as lease:
                        held.append(lease)
                        server.pause()
                        await asyncio.sleep(30)

                with pytest.raises(LeaseLost):
                    await block()
                given_up = time.monotonic()
                server.resume()
                async with asyncio.timeout(20):
                    while True:
                        try:
                            async with leases.hold("name", wait=10) as following:
                                assert time.monotonic() >= given_up
                                assert following.token > held[0].token
                                break
                        except StoreUnavailable:
                            await asyncio.sleep(0.05)

    asyncio.run(main())
