"""What the tests of caches and leases share: the stores by name, a Valkey of a test's own, and a cluster of three."""

import asyncio
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Self

from tests.state.counters_kit import Place
from tests.state.sessions_kit import TwicePostgres, TwiceRedis
from workhorse.contracts import CacheStore, LeaseStore
from workhorse.embedded.binaries import find_valkey
from workhorse.state.memory.cache import MemoryCache
from workhorse.state.memory.lease import MemoryLeases
from workhorse.state.postgres.cache import PostgresCache
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.postgres.lease import PostgresLeases
from workhorse.state.redis.cache import RedisCache
from workhorse.state.redis.connection import Client, close_redis, open_redis
from workhorse.state.redis.lease import RedisLeases

BACKENDS = ("memory", "redis", "postgres")
SHARED_BACKENDS = BACKENDS[1:]

# Generous, because the machine of a test is shared; the tests of time-outs give their own.
TIMEOUT_SECONDS = 10.0


@asynccontextmanager
async def redis_client(
    url: str, *, twice: bool = False, timeout_seconds: float = TIMEOUT_SECONDS
) -> AsyncIterator[Client]:
    client = open_redis(url, timeout_seconds=timeout_seconds)
    try:
        yield TwiceRedis(client) if twice else client
    finally:
        await close_redis(client)


@asynccontextmanager
async def postgres_database(url: str, *, twice: bool = False) -> AsyncIterator[PostgresDatabase]:
    database = (TwicePostgres if twice else PostgresDatabase)(url, pool_max=8)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def opened_cache(backend: str, place: Place, *, twice: bool = False) -> AsyncIterator[CacheStore]:
    if backend == "memory":
        yield MemoryCache()
    elif backend == "redis":
        async with redis_client(place.cache_url, twice=twice) as client:
            yield RedisCache(client, prefix=place.prefix, timeout_seconds=TIMEOUT_SECONDS)
    else:
        async with postgres_database(place.database_url, twice=twice) as database:
            yield PostgresCache(database, timeout_seconds=TIMEOUT_SECONDS)


@asynccontextmanager
async def opened_leases(backend: str, place: Place, *, twice: bool = False) -> AsyncIterator[LeaseStore]:
    if backend == "memory":
        yield MemoryLeases()
    elif backend == "redis":
        async with redis_client(place.cache_url, twice=twice) as client:
            yield RedisLeases(client, prefix=place.prefix, timeout_seconds=TIMEOUT_SECONDS)
    else:
        async with postgres_database(place.database_url, twice=twice) as database:
            yield PostgresLeases(database, timeout_seconds=TIMEOUT_SECONDS)


class OwnValkey:
    """A Valkey that a test may kill, pause and start again."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.socket = folder / "v.sock"
        self.url = f"unix://{self.socket}"
        self._command = [
            str(find_valkey()),
            *("--port", "0", "--unixsocket", str(self.socket), "--dir", str(folder), "--save", "", *settings),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        wait_for_socket(socket.AF_UNIX, str(self.socket))

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self.socket.unlink(missing_ok=True)

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def wait_for_socket(family: socket.AddressFamily, address: str | tuple[str, int]) -> None:
    deadline = time.monotonic() + 20
    while True:
        with socket.socket(family) as probe:
            try:
                probe.connect(address)
            except OSError:
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.02)
            else:
                return


@contextmanager
def cluster_of_three(folder: Path) -> Iterator[str]:
    """Three primaries that share the hash slots. Gives the URL of one."""
    ports = free_ports(3)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for port in ports:
            home = folder / str(port)
            home.mkdir()
            command = [str(find_valkey()), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(home), "--save", ""]
            command += ["--cluster-enabled", "yes", "--cluster-port", str(free_ports(1)[0])]
            processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        for port in ports:
            wait_for_socket(socket.AF_INET, ("127.0.0.1", port))
        asyncio.run(form_cluster(ports))
        yield f"redis+cluster://127.0.0.1:{ports[0]}"
    finally:
        for process in processes:
            process.kill()
            process.wait()


async def form_cluster(ports: list[int]) -> None:
    clients = [open_redis(f"redis://127.0.0.1:{port}") for port in ports]
    try:
        bounds = [0, 5461, 10923, 16384]
        for client, first, after in zip(clients, bounds, bounds[1:], strict=False):
            await client.execute(["CLUSTER", "ADDSLOTSRANGE", first, after - 1])
        buses = [
            next(line.split()[1].split("@")[1].split(",")[0] for line in text.splitlines() if "myself" in line)
            for text in [(await client.execute(["CLUSTER", "NODES"])).decode() for client in clients]
        ]
        for port, bus in zip(ports[1:], buses[1:], strict=True):
            await clients[0].execute(["CLUSTER", "MEET", "127.0.0.1", port, bus])
        async with asyncio.timeout(30):
            while not all([await knows_all(client) for client in clients]):
                await asyncio.sleep(0.05)
    finally:
        for client in clients:
            await close_redis(client)


async def knows_all(client: Client) -> bool:
    told = await client.execute(["CLUSTER", "INFO"])
    text = told.decode() if isinstance(told, bytes) else str(told)
    return "cluster_state:ok" in text and "cluster_known_nodes:3" in text


def free_ports(count: int) -> list[int]:
    listeners = [socket.socket() for _ in range(count)]
    for listener in listeners:
        listener.bind(("127.0.0.1", 0))
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports
