"""Databases for tests: copies of one that has been migrated, which cost a twentieth of a second each.

The template is made by the first process that wants it, under an advisory lock, and by way of another name: there is
a whole one or none. Its name holds a checksum of its migrations, so that changed ones make another template.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

from workhorse.embedded import drop_database
from workhorse.errors import StartupError
from workhorse.migrations import WORKHORSE, Migrations
from workhorse.sql import load_queries
from workhorse.state.postgres.migrate import apply_migrations

__all__ = ["copy_database", "database_name", "drop_database", "migrated_database"]

MAINTENANCE: Final = "postgres"
# The same for all templates: they are made seldom.
LOCK_KEY: Final = int.from_bytes(b"wh-templ", "big")
LOCK_SECONDS: Final = 120


def database_name(url: str) -> str:
    """The database that a URL names."""
    return unquote(urlsplit(url).path.lstrip("/"))


def copy_database(url: str, name: str | None = None) -> str:
    """Copy a database that nobody is connected to, on its own server. Returns the copy's URL.

    Args:
        url: the original's.
        name: what to call the copy; a random name where it is not given.

    Raises:
        StartupError: the server refused, for instance because somebody is connected to the original.
    """
    name = name or f"copy_{secrets.token_hex(8)}"
    original = database_name(url)
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(original))
    try:
        with psycopg.connect(_at(url, MAINTENANCE), autocommit=True) as connection:
            connection.execute(statement)
    except psycopg.errors.ObjectInUse as error:
        raise StartupError(
            f"the database {original!r} cannot be copied while somebody is connected to it: close your connections,"
            f" and stop the app, before the copy is made ({error.diag.message_detail})"
        ) from error
    except psycopg.Error as error:
        raise StartupError(f"the database {original!r} cannot be copied: {error}") from error
    return _at(url, name)


def migrated_database(url: str, migrations: Sequence[Migrations] = ()) -> str:
    """Make a database with Workhorse's tables and the app's own, from a template. Returns its URL.

    Args:
        url: any database of the server.
        migrations: the app's own sets.

    Raises:
        StartupError: a migration failed, or the server refused.
    """
    sets = [WORKHORSE, *migrations]
    template = _at(url, f"template_{_checksum(sets)}")
    try:
        return copy_database(template)
    except StartupError as error:
        if not isinstance(error.__cause__, psycopg.errors.InvalidCatalogName):
            raise
    _make_template(template, sets)
    return copy_database(template)


def _make_template(template: str, sets: Sequence[Migrations]) -> None:
    queries = load_queries("workhorse.testing", "databases.sql")
    name = database_name(template)
    growing = f"{name}_{secrets.token_hex(4)}"
    with psycopg.connect(_at(template, MAINTENANCE), autocommit=True) as connection:
        connection.execute(queries["limit_wait"].encode(), (f"{LOCK_SECONDS}s",))
        connection.execute(queries["lock"].encode(), (LOCK_KEY,))
        if _exists(template):
            return
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(growing)))
        try:
            _outside_of_loops(lambda: asyncio.run(apply_migrations(_at(template, growing), sets)))
            renaming = sql.SQL("ALTER DATABASE {} RENAME TO {}")
            connection.execute(renaming.format(sql.Identifier(growing), sql.Identifier(name)))
        except BaseException:
            drop_database(_at(template, growing))
            raise


def _exists(url: str) -> bool:
    exists = load_queries("workhorse.testing", "databases.sql")["exists"].encode()
    with psycopg.connect(_at(url, MAINTENANCE), autocommit=True) as connection:
        return connection.execute(exists, (database_name(url),)).fetchone() is not None


def _checksum(sets: Sequence[Migrations]) -> str:
    digest = sha256()
    for one in sets:
        for migration in one.load():
            digest.update(f"{one.name} {migration.number} {migration.checksum}\n".encode())
    return digest.hexdigest()[:24]


def _outside_of_loops(work: Callable[[], Any]) -> None:
    """Run in a thread, because a test may set up its fixtures inside of an event loop."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


def _at(url: str, name: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, f"/{quote(name, safe='')}", parts.query, ""))
