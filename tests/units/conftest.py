from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from tests.asgi_client import running
from workhorse import Policy, Service
from workhorse.integrations import is_routed
from workhorse.settings import Settings, load_settings

Sql = Callable[..., list[tuple[Any, ...]]]
Serving = Callable[..., Any]


@pytest.fixture
def sql(database_url: str) -> Sql:
    """Ask the database itself, on a connection of its own."""

    def ask(statement: str, *params: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(database_url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), params)
            return cursor.fetchall() if cursor.description else []

    ask("CREATE TABLE notes (id int GENERATED ALWAYS AS IDENTITY, text text UNIQUE)")
    return ask


@pytest.fixture
def serving(settings: Settings) -> Callable[..., Any]:
    """Serve an app in process, with the routes that take a key, around the block."""

    @asynccontextmanager
    async def serve(app: Callable[..., Awaitable[None]], **overrides: Any) -> AsyncIterator[Service]:
        changed = settings
        if overrides:
            assert settings.database.url is not None
            database = {"url": settings.database.url.get_secret_value(), **overrides.pop("database", {})}
            changed = load_settings(settings.project, database=database, **overrides)
        policies = [Policy("POST /notes", idempotent=True), Policy("POST /must", idempotent="required")]
        routed = [policy for policy in policies if is_routed(app, policy)]
        service = Service(app, policies=routed, settings=changed)
        async with running(service):
            yield service

    return serve
