"""The proxy passes everything through unchanged, and breaks the wire exactly where it was told to."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis.asyncio
import redis.exceptions

from tests.testing import wires
from workhorse.contracts import Query
from workhorse.embedded import Attachment
from workhorse.errors import SettingsError, StartupError
from workhorse.state.postgres.roundtrip import round_trip
from workhorse.testing import Fault, FaultProxy
from workhorse.testing.addresses import Address, read_address, redirect
from workhorse.testing.messages import Opening

Connection = psycopg.AsyncConnection[Any]


def through(url: str, script: Callable[[FaultProxy], Awaitable[Any]], **more: Any) -> Any:
    async def main() -> Any:
        async with FaultProxy(url, **more) as proxy:
            return await asyncio.wait_for(script(proxy), 30)

    return asyncio.run(main())


async def connect(proxy: FaultProxy, **more: Any) -> Connection:
    return await psycopg.AsyncConnection.connect(proxy.url, connect_timeout=5, **more)


def happened(fault: Fault) -> bool:
    return fault.happened


def rows(url: str) -> int:
    with psycopg.connect(url) as connection:
        (count,) = connection.execute("SELECT count(*) FROM t").fetchone() or (None,)
        assert isinstance(count, int)
        return count


@pytest.fixture
def table_url(database_url: str) -> str:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE t (a text)")
    return database_url


def test_everything_passes_unchanged_and_is_counted(table_url: str) -> None:
    async def script(proxy: FaultProxy) -> None:
        async with await connect(proxy, autocommit=True) as connection:
            big = "x" * 3_000_000
            cursor = await connection.execute("SELECT %s::text", (big,))
            assert await cursor.fetchone() == (big,)
            async with connection.cursor().copy("COPY t FROM STDIN") as copy:
                for _ in range(1000):
                    await copy.write("line\n" * 20)
            async with connection.cursor().copy("COPY t TO STDOUT") as out:
                assert sum([len(bytes(part)) async for part in out]) == 100_000
            assert (proxy.round_trips, proxy.commits, proxy.connections) == (3, 0, 1)
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES ('a')")
                assert [proxy.resting] == [False]
            assert (proxy.round_trips, proxy.commits) == (6, 1)
            assert proxy.resting
        async with asyncio.timeout(5):
            while proxy.connections:
                await asyncio.sleep(0.01)
        assert proxy.accepted == 1

    through(table_url, script)
    assert rows(table_url) == 20_001


def test_a_socket_in_a_folder_serves_as_well(database_url: str, tmp_path: Path) -> None:
    folder = Path("/tmp") / f"wh{time.monotonic_ns()}"  # noqa: S108 - a socket's path must be short
    folder.mkdir(mode=0o700)

    async def script(proxy: FaultProxy) -> Any:
        async with await connect(proxy) as connection:
            return await (await connection.execute("SELECT 1")).fetchone()

    assert through(database_url, script, folder=folder) == (1,)
    assert list(folder.iterdir()) == []
    folder.rmdir()


def test_a_commit_that_is_cut_before_the_server_rolls_back(table_url: str) -> None:
    async def script(proxy: FaultProxy) -> None:
        fault = proxy.cut_before_commit()
        connection = await connect(proxy)
        await connection.execute("INSERT INTO t VALUES ('a')")
        assert not happened(fault)
        with pytest.raises(psycopg.OperationalError):
            await connection.commit()
        assert happened(fault)
        await connection.close()
        assert proxy.commits == 0

    through(table_url, script)
    assert rows(table_url) == 0


def test_a_commit_that_is_cut_after_the_server_stands_and_nobody_heard(table_url: str) -> None:
    async def script(proxy: FaultProxy) -> None:
        fault = proxy.cut_after_commit()
        connection = await connect(proxy)
        await connection.execute("INSERT INTO t VALUES ('a')")
        with pytest.raises(psycopg.OperationalError):
            await connection.commit()
        assert fault.happened
        await connection.close()
        assert proxy.commits == 1

    through(table_url, script)
    assert rows(table_url) == 1


@pytest.mark.parametrize(("where", "kept"), [("before", 0), ("after", 1)])
def test_a_pipelined_commit_is_cut_as_exactly(table_url: str, where: str, kept: int) -> None:
    async def script(proxy: FaultProxy) -> None:
        connection, prepared = await connect(proxy, autocommit=True), set[bytes]()
        whole = (Query("BEGIN"), Query("SELECT count(*) FROM t"), Query("COMMIT"))
        for _ in range(2):  # the second time, its statements are known by their names alone
            await round_trip(connection, whole, prepared)
        assert (proxy.round_trips, proxy.commits) == (2, 2)
        fault = proxy.cut_after_commit() if where == "after" else proxy.cut_before_commit()
        with pytest.raises(psycopg.OperationalError):
            await round_trip(
                connection, (Query("BEGIN"), Query("INSERT INTO t VALUES ('a')"), Query("COMMIT")), prepared
            )
        assert fault.happened
        await connection.close()

    through(table_url, script)
    assert rows(table_url) == kept


def test_cuts_are_counted_from_when_they_are_asked_for(database_url: str) -> None:
    async def script(proxy: FaultProxy) -> None:
        async with await connect(proxy, autocommit=True) as connection:
            await connection.execute("SELECT 1")
            fault = proxy.cut_after(roundtrips=2)
            await connection.execute("SELECT 1")
            assert await (await connection.execute("SELECT 2")).fetchone() == (2,), "the second one is answered"
            with pytest.raises(psycopg.OperationalError):
                await connection.execute("SELECT 3")
            assert fault.happened
        async with await connect(proxy, autocommit=True) as connection:
            proxy.cut_before(roundtrip=1)
            with pytest.raises(psycopg.OperationalError):
                await connection.execute("CREATE TABLE before ()")
        async with await connect(proxy, autocommit=True) as connection:
            proxy.cut_unheard(roundtrip=1)
            with pytest.raises(psycopg.OperationalError):
                await connection.execute("CREATE TABLE unheard ()")
        async with await connect(proxy, autocommit=True) as connection:
            proxy.cut_after(messages=1)
            with pytest.raises(psycopg.OperationalError):
                await connection.execute("CREATE TABLE messages ()")
            assert await proxied_tables(proxy) >= {"unheard"}

    async def proxied_tables(proxy: FaultProxy) -> set[str]:
        async with await connect(proxy) as connection:
            cursor = await connection.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            )
            return {row[0] for row in await cursor.fetchall()}

    through(database_url, script)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT to_regclass('before')").fetchone() == (None,)


def test_a_cut_takes_all_and_a_refusal_lasts_until_it_heals(database_url: str) -> None:
    async def script(proxy: FaultProxy) -> None:
        async with await connect(proxy) as one, await connect(proxy) as two:
            assert proxy.cut() == 2
            for connection in (one, two):
                with pytest.raises(psycopg.OperationalError):
                    await connection.execute("SELECT 1")
        proxy.refuse()
        with pytest.raises(psycopg.OperationalError):
            await connect(proxy)
        proxy.heal()
        await (await connect(proxy)).close()

    through(database_url, script)


def test_a_stalled_wire_answers_nothing_and_a_healed_one_all(database_url: str) -> None:
    async def script(proxy: FaultProxy) -> None:
        async with await connect(proxy, autocommit=True) as connection:
            proxy.stall()
            asked = asyncio.create_task(connection.execute("SELECT 7"))
            late = asyncio.create_task(connect(proxy))
            done, _ = await asyncio.wait({asked, late}, timeout=0.4)
            assert not done
            proxy.heal()
            assert await (await asked).fetchone() == (7,)
            await (await late).close()

    through(database_url, script)


def test_a_delay_holds_back_both_directions(database_url: str) -> None:
    async def script(proxy: FaultProxy) -> float:
        async with await connect(proxy, autocommit=True) as connection:
            proxy.delay(0.2)
            began = time.monotonic()
            await connection.execute("SELECT 1")
            proxy.heal()
            return time.monotonic() - began

    assert 0.4 <= through(database_url, script) < 5


def test_a_half_closed_connection_ends_for_the_client_while_it_may_still_send(database_url: str) -> None:
    async def script(proxy: FaultProxy) -> None:
        async with await connect(proxy, autocommit=True) as connection:
            proxy.half_close()
            with pytest.raises(psycopg.OperationalError, match="closed the connection"):
                await connection.execute("SELECT 1")
        async with await connect(proxy, autocommit=True) as connection:
            proxy.half_close(towards_server=True)  # whose session then ends, and says so
            with pytest.raises(psycopg.OperationalError):
                await connection.execute("SELECT 1")

    through(database_url, script)


@pytest.mark.parametrize("kind", [Opening.TLS, Opening.GSS], ids=["TLS", "GSS"])
def test_encryption_is_declined_and_a_plain_login_goes_on(database_url: str, kind: Opening) -> None:
    async def script(proxy: FaultProxy) -> tuple[bytes, bytes]:
        return await wires.ask_for(kind, proxy.url)

    assert through(database_url, script) == (b"N", b"R")


def test_a_client_that_insists_on_tls_goes_away(database_url: str) -> None:
    async def script(proxy: FaultProxy) -> None:
        with pytest.raises(psycopg.OperationalError, match="SSL"):
            await connect(proxy, sslmode="require")

    through(database_url, script)


def test_what_is_not_the_protocol_is_cut(database_url: str) -> None:
    async def script(proxy: FaultProxy) -> bytes:
        reader, writer = await asyncio.open_connection(*wires.address_of(proxy.url))
        writer.write(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
        try:
            return await reader.read(10)
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    assert through(database_url, script) == b""


def test_a_server_that_is_away_is_found_as_by_itself(tmp_path: Path) -> None:
    async def script(proxy: FaultProxy) -> None:
        with pytest.raises(psycopg.OperationalError):
            await connect(proxy)

    through(f"postgresql://postgres@/app?host={tmp_path}", script)


def test_before_redis_it_passes_cuts_and_does_not_count(servers: Attachment) -> None:
    async def script(proxy: FaultProxy) -> None:
        client: Any = redis.asyncio.from_url(proxy.url)
        try:
            assert await client.echo("hello") == b"hello"
            assert proxy.cut() == 1
            proxy.refuse()
            with pytest.raises(redis.exceptions.ConnectionError):
                await client.echo("hello")
            proxy.heal()
            assert await client.echo("again") == b"again"
            with pytest.raises(ValueError, match="only Postgres"):
                proxy.cut_before_commit()
        finally:
            await client.aclose()

    through(servers.cache_url, script)


def test_a_proxy_that_does_not_listen_has_no_url_and_counts_from_one(database_url: str) -> None:
    proxy = FaultProxy(database_url)
    with pytest.raises(StartupError, match="does not listen yet"):
        _ = proxy.url
    with pytest.raises(ValueError, match="count from 1"):
        proxy.cut_before(roundtrip=0)
    with pytest.raises(ValueError, match="either roundtrips or messages"):
        proxy.cut_after()


@pytest.mark.parametrize(
    ("url", "address", "behind"),
    [
        (
            "postgresql://me:secret@db.example:5433/app?sslmode=require&application_name=x",
            Address("db.example", 5433),
            "postgresql://me:secret@127.0.0.1:99/app?application_name=x",
        ),
        (
            "postgres://postgres@/app?host=/run/pg&port=5499",
            Address(path="/run/pg/.s.PGSQL.5499"),
            "postgres://postgres@127.0.0.1:99/app",
        ),
        ("redis://:secret@cache/3", Address("cache", 6379), "redis://:secret@127.0.0.1:99/3"),
        ("unix:///run/redis.sock?db=2", Address(path="/run/redis.sock"), "redis://127.0.0.1:99/2"),
    ],
)
def test_urls_are_read_and_redirected(url: str, address: Address, behind: str) -> None:
    assert read_address(url) == address
    assert redirect(url, Address("127.0.0.1", 99)) == behind


@pytest.mark.parametrize("url", ["rediss://cache/0", "mysql://db/app", "postgresql://a,b/app?host=a,b"])
def test_urls_that_it_cannot_stand_before_are_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="a fault proxy stands before"):
        FaultProxy(url)
