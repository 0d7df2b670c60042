"""What the tests of sessions share: the stores by name, each also as one whose every command is sent twice."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tests.state.counters_kit import Place
from workhorse.contracts import Query, SessionStore
from workhorse.state.memory.sessions import MemorySessions
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.state.postgres.sessions import PostgresSessions
from workhorse.state.redis.connection import Client, close_redis, open_redis
from workhorse.state.redis.sessions import RedisSessions


class TwiceRedis(Client):
    """Loses the first answer to each command, and sends it again."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def execute(self, command: Sequence[str | bytes | int]) -> Any:
        await self._client.execute(command)
        return await self._client.execute(command)


class TwicePostgres(PostgresDatabase):
    """Loses the first answer to each statement that may be repeated, and sends it again."""

    async def run(self, query: Query, *, repeatable: bool = False) -> Sequence[tuple[Any, ...]]:
        if repeatable:
            await super().run(query)
        return await super().run(query, repeatable=repeatable)


@asynccontextmanager
async def opened(backend: str, place: Place, *, twice: bool = False) -> AsyncIterator[SessionStore]:
    if backend == "memory":
        yield MemorySessions()
    elif backend == "redis":
        client = open_redis(place.cache_url)
        try:
            yield RedisSessions(TwiceRedis(client) if twice else client, prefix=place.prefix)
        finally:
            await close_redis(client)
    else:
        database = (TwicePostgres if twice else PostgresDatabase)(place.database_url, pool_max=8)
        await database.open()
        try:
            yield PostgresSessions(database)
        finally:
            await database.close()
