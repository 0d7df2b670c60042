"""A fresh database for each test, in a server that runs already: tens of milliseconds instead of a second."""

import secrets
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from workhorse.embedded.client import Attachment
from workhorse.embedded.state import DATABASE
from workhorse.errors import EmbeddedServerError

if TYPE_CHECKING:
    from psycopg.sql import Composed

__all__ = ["drop_database", "fresh_database"]

MAINTENANCE: Final = "postgres"
KEPT: Final = frozenset({"", DATABASE, MAINTENANCE, "template0", "template1"})


def fresh_database(server: Attachment | str, name: str | None = None) -> str:
    """Create an empty database and return its URL.

    Args:
        server: an attachment, or the URL of any database of the server.
        name: what to call it; a random name where it is not given.

    Raises:
        EmbeddedServerError: the server refused, for instance because there is one of that name.
    """
    from psycopg import sql  # noqa: PLC0415

    url = _url(server)
    name = name or f"fresh_{secrets.token_hex(8)}"
    # From template0, because a session in template1 would forbid the copy.
    _run(url, sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    return _with_database(url, name)


def drop_database(url: str) -> None:
    """Drop the database that `url` names, and end the sessions in it. Nothing happens where there is none.

    Raises:
        EmbeddedServerError: it is one that the server itself needs, or the server refused.
    """
    from psycopg import sql  # noqa: PLC0415

    name = unquote(urlsplit(url).path.lstrip("/"))
    if name in KEPT:
        raise EmbeddedServerError(f"the database {name!r} is not one that fresh_database made: it is not dropped")
    _run(url, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _run(url: str, statement: "Composed") -> None:
    # Imported here and above, because a driver takes longer to import than all else that attaches.
    import psycopg  # noqa: PLC0415

    try:
        with psycopg.connect(_with_database(url, MAINTENANCE), autocommit=True) as connection:
            connection.execute(statement)
    except psycopg.Error as error:
        raise EmbeddedServerError(f"{statement.as_string()}: {error}") from error


def _url(server: Attachment | str) -> str:
    return server if isinstance(server, str) else server.database_url


def _with_database(url: str, name: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, f"/{quote(name, safe='')}", parts.query, parts.fragment))
