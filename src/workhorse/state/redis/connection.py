"""One pool of connections to Redis or Valkey, on which every wait has an end.

Each command has a deadline as a whole: the wait for a free connection, the making of a new one, the try and its one
repetition. A connection that was used when the deadline passed is closed, never given back with an answer still under
way. What is repeated is a command whose connection turned out to be broken, once and at once: the server was restarted
while it slept. So a command may run twice, and every command that is sent here has to bear that.

A cluster is one client as well, to which each command goes by its keys' hash slot; so its keys have to share one.

Who waits for a connection is served in turn. The driver's own blocking pool lets newcomers go first: under load some
would wait until their time is over, on a server that is well.
"""

import asyncio
from collections.abc import Sequence
from hashlib import sha1
from typing import Any, ClassVar, Final, cast

from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionBroken
from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from workhorse.errors import SettingsError, StoreUnavailable

__all__ = ["Client", "Script", "ask", "close_redis", "open_redis", "ping_redis"]

REPETITIONS: Final = 1
# The driver's own for clusters is no RedisError.
FAILURES: Final = (RedisError, RedisClusterException, OSError, TimeoutError)


class Client:
    """The driver's client, and whose turn it is. It belongs to the event loop of its first command."""

    __slots__ = ("_driver", "_turns")

    cluster: ClassVar[bool] = False
    """Whether the keys of one command have to share a hash slot."""

    def __init__(self, driver: Redis | RedisCluster, *, pool_max: int) -> None:
        self._driver = driver
        self._turns = asyncio.Semaphore(pool_max)

    async def execute(self, command: Sequence[str | bytes | int]) -> Any:
        """Send a command and return its answer. The driver's errors pass through; `ask` gives them their names."""
        async with self._turns:
            # The driver leaves this method untyped.
            return await cast("Any", self._driver).execute_command(*command)

    async def close(self) -> None:
        """Close every connection, those in use too."""
        await self._driver.aclose()


class ClusterClient(Client):
    """The same for a Redis Cluster."""

    __slots__ = ()

    cluster: ClassVar[bool] = True


def open_redis(url: str, *, pool_max: int = 16, timeout_seconds: float = 1.0) -> Client:
    """Prepare a pool of connections. None is made yet: `ping_redis` tells whether the server is there.

    Args:
        url: `redis://[user:password@]host[:port][/database]`, `rediss://...` for TLS with the server's certificate
            and name verified, or `unix:///path/to/socket`. For a cluster `redis+cluster://` or `rediss+cluster://`,
            and one of its nodes.
        pool_max: connections at most. Who finds none free waits for its turn, within its command's deadline.
        timeout_seconds: longest wait for a connection to be made, to take a command, and to answer.

    Raises:
        SettingsError: the URL is malformed.
    """
    options: dict[str, Any] = {}
    if url.partition("://")[0].endswith("+cluster"):
        return _open_cluster(url, pool_max=pool_max, timeout_seconds=timeout_seconds)
    if not url.startswith("unix:"):
        options["socket_keepalive"] = True
    try:
        pool = cast("Any", ConnectionPool).from_url(
            url,
            max_connections=pool_max,
            socket_connect_timeout=timeout_seconds,
            socket_timeout=timeout_seconds,
            # A server that is silent is not asked again: the caller's time is up by then.
            retry=Retry(NoBackoff(), REPETITIONS, supported_errors=(ConnectionBroken,)),
            **options,
        )
        # Made, not connected: options after the URL's question mark that do not exist show now.
        pool.make_connection()
    except (ValueError, TypeError) as error:
        # The URL may hold a password, so it is not shown.
        raise SettingsError(f"the cache's URL is malformed: {error}; write redis://HOST:6379/0") from error
    return Client(Redis.from_pool(pool), pool_max=pool_max)


def _open_cluster(url: str, *, pool_max: int, timeout_seconds: float) -> Client:
    try:
        driver = cast("Any", RedisCluster).from_url(
            url.replace("+cluster://", "://", 1),
            max_connections=pool_max,
            socket_connect_timeout=timeout_seconds,
            socket_timeout=timeout_seconds,
            socket_keepalive=True,
            # Of commands that were sent to a node which is gone, or has handed the slot to another.
            retry=Retry(NoBackoff(), REPETITIONS),
        )
    except (RedisError, RedisClusterException, ValueError, TypeError) as error:
        raise SettingsError(f"the cache's URL is malformed: {error}; write redis+cluster://HOST:6379") from error
    return ClusterClient(driver, pool_max=pool_max)


async def close_redis(client: Client) -> None:
    """Close every connection, those in use too."""
    await client.close()


async def ask(client: Client, *command: str | bytes | int, timeout_seconds: float) -> Any:
    """Send one command and wait for its answer.

    Raises:
        StoreUnavailable: none came in time, the connection broke twice, or the server refused: it is loading, out of
            memory, a replica, or wants another password. The cause tells which.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            return await client.execute(command)
    except FAILURES as error:
        raise StoreUnavailable from error


async def ping_redis(client: Client, *, deadline_seconds: float) -> None:
    """Ask the server for a sign of life.

    Raises:
        StoreUnavailable: none came within the deadline.
    """
    await ask(client, "PING", timeout_seconds=deadline_seconds)


class Script:
    """A Lua script, which the server runs in one step. It is sent once, and named by its digest from then on."""

    __slots__ = ("_digest", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._digest = sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def run(
        self,
        client: Client,
        keys: Sequence[str | bytes],
        arguments: Sequence[str | bytes | int] = (),
        *,
        timeout_seconds: float,
    ) -> Any:
        """Run it with these KEYS and ARGV, in one round trip, and return what it returns.

        Raises:
            StoreUnavailable: see `ask`.
        """
        given = (len(keys), *keys, *arguments)
        try:
            async with asyncio.timeout(timeout_seconds):
                try:
                    return await client.execute(("EVALSHA", self._digest, *given))
                except NoScriptError:
                    # The server was restarted, or told to forget its scripts. EVAL keeps it for the next.
                    return await client.execute(("EVAL", self._text, *given))
        except FAILURES as error:
            raise StoreUnavailable from error
