"""Counters on real servers: what they leave behind, and what happens when a server is away, silent or restarted."""

import asyncio
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.state.counters_kit import Place, Wire, migrated_place
from workhorse.contracts import Query
from workhorse.embedded import Attachment
from workhorse.errors import SettingsError, StoreUnavailable
from workhorse.rate import Quota
from workhorse.state.postgres.counters import PostgresCounters
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.redis.connection import ask, close_redis, open_redis, ping_redis
from workhorse.state.redis.counters import RedisCounters

HOUR = 3_600_000_000


@pytest.fixture(scope="module")
def place(servers: Attachment) -> Iterator[Place]:
    with migrated_place(servers) as place:
        yield place


@pytest.fixture
def short_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For sockets, whose paths are limited to about a hundred characters."""
    return tmp_path_factory.mktemp("w")


def test_a_redis_counter_is_gone_when_it_is_full_again(place: Place) -> None:
    async def main() -> None:
        client = open_redis(place.cache_url)
        try:
            store = RedisCounters(client, prefix=place.prefix)
            quota = Quota(uuid4().hex, 40_000, 10)
            await store.take((quota,), cost=0)
            assert await ask(client, "EXISTS", place.prefix + quota.key, timeout_seconds=1) == 0
            await store.take((quota,), cost=3)
            assert 0 < await ask(client, "PTTL", place.prefix + quota.key, timeout_seconds=1) <= 120
            await asyncio.sleep(0.15)
            assert await ask(client, "EXISTS", place.prefix + quota.key, timeout_seconds=1) == 0
        finally:
            await close_redis(client)

    asyncio.run(main())


def test_a_redis_that_has_forgotten_the_script_is_sent_it_again(place: Place) -> None:
    async def main() -> None:
        client = open_redis(place.cache_url)
        try:
            store = RedisCounters(client, prefix=place.prefix)
            quota = Quota(uuid4().hex, HOUR, 10)
            for remaining in (9, 8, 7):
                await ask(client, "SCRIPT", "FLUSH", timeout_seconds=1)
                assert (await store.take((quota,)))[0].remaining == remaining
        finally:
            await close_redis(client)

    asyncio.run(main())


def test_a_redis_that_refuses_is_away_and_the_cause_says_why(place: Place) -> None:
    async def main() -> None:
        client = open_redis(place.cache_url)
        try:
            store = RedisCounters(client, prefix=place.prefix)
            quota = Quota(uuid4().hex, HOUR, 10)
            await ask(client, "SET", place.prefix + quota.key, "not a counter", timeout_seconds=1)
            with pytest.raises(StoreUnavailable) as caught:
                await store.take((quota,))
            assert "nil" in str(caught.value.__cause__)
        finally:
            await close_redis(client)

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["closed", "silent"])
def test_a_redis_that_is_not_there_or_never_answers_is_given_up_in_time(kind: str) -> None:
    async def main() -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
            if kind == "silent":
                listener.listen(64)
            else:
                listener.close()
            client = open_redis(f"redis://127.0.0.1:{port}/0", pool_max=2, timeout_seconds=0.3)
            try:
                store = RedisCounters(client, timeout_seconds=0.3)
                began = time.monotonic()
                # More than the pool has room for: those that wait for a connection have a deadline too.
                outcomes = await asyncio.gather(
                    *(store.take((Quota("key", HOUR, 10),)) for _ in range(8)),
                    store.forget(["key"]),
                    ping_redis(client, deadline_seconds=0.3),
                    return_exceptions=True,
                )
                assert time.monotonic() - began < 1
                assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 10
            finally:
                await close_redis(client)

    asyncio.run(main())


def test_a_redis_that_falls_silent_is_given_up_in_time_and_used_again_when_it_is_back(
    place: Place, short_folder: Path
) -> None:
    async def main() -> None:
        path = short_folder / "redis.sock"
        async with Wire(Path(urlsplit(place.cache_url).path), path) as wire:
            client = open_redis(f"unix://{path}", pool_max=2, timeout_seconds=0.3)
            try:
                store = RedisCounters(client, prefix=place.prefix, timeout_seconds=0.3)
                quota = Quota(uuid4().hex, HOUR, 100)
                await store.take((quota,))
                wire.silence()
                began = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    await store.take((quota,))
                assert time.monotonic() - began < 1
                await wire.cut()
                assert (await store.take((quota,)))[0].admitted
                # A connection that broke while it slept is replaced within the take.
                await wire.cut()
                assert (await store.take((quota,)))[0].admitted
            finally:
                await close_redis(client)

    asyncio.run(main())


def test_requests_that_are_cancelled_do_not_use_up_the_pool_nor_mix_up_answers(place: Place) -> None:
    async def main() -> None:
        client = open_redis(place.cache_url, pool_max=2)
        try:
            store = RedisCounters(client, prefix=place.prefix)
            many = [Quota(uuid4().hex, HOUR, 10 + number) for number in range(40)]
            for turn in range(40):
                tasks = [asyncio.create_task(store.take((quota,), cost=0)) for quota in many]
                for _ in range(turn % 7):
                    await asyncio.sleep(0)
                for task in tasks[turn % 3 :: 2]:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            for quota in many:
                assert (await store.take((quota,), cost=0))[0].remaining == quota.capacity
        finally:
            await close_redis(client)

    asyncio.run(main())


def test_who_waits_for_a_connection_is_served_in_turn(place: Place) -> None:
    async def main() -> list[float]:
        client = open_redis(place.cache_url, pool_max=2)
        longest = [0.0] * 40

        async def one(number: int) -> None:
            for _ in range(15):
                began = time.monotonic()
                await ask(client, "PING", timeout_seconds=10)
                longest[number] = max(longest[number], time.monotonic() - began)

        try:
            began = time.monotonic()
            await asyncio.gather(*map(one, range(40)))
            return [waited / (time.monotonic() - began) for waited in longest]
        finally:
            await close_redis(client)

    # Each in 40 asks 15 times: in turn, one wait is a fifteenth of the whole time, not most of it.
    assert max(asyncio.run(main())) < 0.5


def test_a_server_whose_certificate_nobody_vouches_for_is_not_talked_to(tmp_path: Path) -> None:
    async def main() -> BaseException | None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self_signed(tmp_path))
        served: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            served.append(await reader.read(100))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        client = open_redis(f"rediss://localhost:{server.sockets[0].getsockname()[1]}/0")
        try:
            with pytest.raises(StoreUnavailable) as caught:
                await ping_redis(client, deadline_seconds=2)
            assert served == []
            return caught.value.__cause__
        finally:
            await close_redis(client)
            server.close()

    assert "CERTIFICATE_VERIFY_FAILED" in str(asyncio.run(main()))


def self_signed(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(secret + certificate.public_bytes(Encoding.PEM))
    return path


@pytest.mark.parametrize("url", ["http://host", "redis://host:port/0", "redis://host?no_such_option=1", ""])
def test_a_malformed_url_of_the_cache_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(SettingsError, match="the cache's URL is malformed") as caught:
        open_redis(url.replace("host", "user:secret@host"))
    assert "secret" not in str(caught.value)


def test_purging_deletes_the_counters_that_are_full_again_and_no_others(place: Place) -> None:
    async def main() -> None:
        database = PostgresDatabase(place.database_url)
        await database.open()
        try:
            store = PostgresCounters(database)
            await database.run(Query("DELETE FROM workhorse.counters"))
            short = [Quota(f"short-{number}", 1, 5) for number in range(30)]
            long = [Quota(f"long-{number}", HOUR, 5) for number in range(30)]
            for quota in short + long:
                await store.take((quota,))
            filler = (
                "INSERT INTO workhorse.counters"
                " SELECT md5(n::text)::uuid, CASE WHEN n % 2 = 0 THEN 0 ELSE 9e15 END FROM generate_series(1, 12000) n"
            )
            await database.run(Query(filler.replace("%", "%%")))
            deleted = [await store.purge() for _ in range(3)]
            assert sum(deleted) == 6_030
            assert max(deleted) < 5_000
            assert await database.run(Query("SELECT count(*) FROM workhorse.counters")) == [(6_030,)]
            assert (await store.take((long[0],), cost=0))[0].remaining == 4
            assert await store.purge() == 0
        finally:
            await database.close()

    asyncio.run(main())


def test_takes_go_on_while_counters_are_purged_and_forgotten(place: Place) -> None:
    async def main() -> None:
        database = PostgresDatabase(place.database_url, pool_max=8)
        await database.open()
        try:
            store = PostgresCounters(database, timeout_seconds=10)
            quotas = [Quota(f"{uuid4().hex}", 1, 5) for _ in range(6)]
            takes = [store.take(quotas[turn % 6 :] + quotas[: turn % 6]) for turn in range(60)]
            others = [store.purge() for _ in range(20)]
            forgets = [store.forget([quota.key for quota in quotas]) for _ in range(20)]
            taken = (await asyncio.gather(*takes, *others, *forgets))[:60]
            assert all(grants is not None for grants in taken)
        finally:
            await database.close()

    asyncio.run(main())


def test_takes_of_one_counter_succeed_under_a_stricter_isolation_too(place: Place) -> None:
    async def main() -> None:
        strict = place.database_url + "&options=-c%20default_transaction_isolation%3Dserializable"
        separator = "" if "?" in place.database_url else "?"
        database = PostgresDatabase(strict.replace("&", separator + "&", 1), pool_max=2)
        await database.open()
        try:
            store = PostgresCounters(database)
            quota = Quota(uuid4().hex, HOUR, 100)
            taken = await asyncio.gather(*(store.take((quota,)) for _ in range(10)))
            assert sorted(grants[0].remaining for grants in taken) == list(range(90, 100))
        finally:
            await database.close()

    asyncio.run(main())


def test_a_row_that_somebody_holds_is_waited_for_no_longer_than_the_deadline(place: Place) -> None:
    async def main() -> None:
        database = PostgresDatabase(place.database_url)
        await database.open()
        try:
            store = PostgresCounters(database, timeout_seconds=0.3)
            quota = Quota(uuid4().hex, HOUR, 100)
            await store.take((quota,))
            holder, _ = await database.begin(Query("SELECT * FROM workhorse.counters FOR UPDATE"))
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await store.take((quota,))
            assert time.monotonic() - began < 1
            await holder.rollback()
            assert (await store.take((quota,)))[0].admitted
        finally:
            await database.close()

    asyncio.run(main())


def test_a_postgres_that_falls_silent_or_away_is_given_up_in_time_and_used_again(
    place: Place, short_folder: Path
) -> None:
    async def main() -> None:
        parts = urlsplit(place.database_url)
        target = Path(parse_qs(parts.query)["host"][0]) / ".s.PGSQL.5432"
        async with Wire(target, short_folder / ".s.PGSQL.5432") as wire:
            url = f"postgresql://{parts.netloc}{parts.path}?host={short_folder}&port=5432"
            database = PostgresDatabase(url, pool_max=2, acquire_timeout_seconds=5)
            await database.open()
            try:
                store = PostgresCounters(database, timeout_seconds=0.4)
                patient = PostgresCounters(database, timeout_seconds=5)
                quota = Quota(uuid4().hex, HOUR, 100)
                await store.take((quota,))
                wire.silence()
                began = time.monotonic()
                outcomes = await asyncio.gather(*(store.take((quota,)) for _ in range(4)), return_exceptions=True)
                assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 4
                assert time.monotonic() - began < 1.2
                await wire.cut()
                assert (await patient.take((quota,)))[0].admitted
                # A connection that broke while it slept is replaced within the take.
                await wire.cut()
                assert (await patient.take((quota,)))[0].admitted
            finally:
                await database.close()
            with pytest.raises(StoreUnavailable):
                await store.take((quota,))

    asyncio.run(main())
