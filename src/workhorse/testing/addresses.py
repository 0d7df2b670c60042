"""Reads where a server is from its URL, and makes the URL of a proxy that stands before it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from workhorse.errors import SettingsError

__all__ = ["Address", "is_postgres", "read_address", "redirect"]

_POSTGRES: Final = frozenset({"postgres", "postgresql"})
_REDIS: Final = frozenset({"redis", "valkey", "unix"})
_POSTGRES_PORT: Final = 5432
_REDIS_PORT: Final = 6379
# Where the server is, how it is spoken to, and how it proves who it is: none of it is true of a proxy in plain text.
_NOT_THE_PROXYS: Final = frozenset(
    {"host", "hostaddr", "port", "channel_binding", "requirepeer", "target_session_attrs"}
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens: a TCP host and port, or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


def is_postgres(url: str) -> bool:
    """Whether it is the URL of a Postgres."""
    return urlsplit(url).scheme in _POSTGRES


def read_address(url: str) -> Address:
    """Where the server of a URL listens.

    Raises:
        SettingsError: it is of no Postgres or Redis, of several servers, or of one that asks for TLS.
    """
    parts = _split(url)
    if parts.scheme == "unix":
        return Address(path=unquote(parts.path))
    if parts.scheme not in _POSTGRES:
        return Address(parts.hostname or "localhost", parts.port or _REDIS_PORT)
    query = dict(parse_qsl(parts.query))
    host = query.get("hostaddr") or query.get("host") or unquote(parts.hostname or "") or "localhost"
    port = query.get("port") or str(parts.port or _POSTGRES_PORT)
    if "," in host or "," in port:
        raise SettingsError(f"a fault proxy stands before one server, and {host!r} are several: name one of them")
    if host.startswith("/"):
        return Address(path=f"{host}/.s.PGSQL.{port}")
    return Address(host, int(port))


def redirect(url: str, to: Address) -> str:
    """The same URL with another place in it. What it says of TLS is left out, which a proxy does not speak."""
    parts = _split(url)
    user = parts.netloc.rpartition("@")[0]
    netloc = f"{user}@" if user else ""
    query = [(name, value) for name, value in parse_qsl(parts.query) if name not in _NOT_THE_PROXYS]
    if parts.scheme in _POSTGRES:
        query = [(name, value) for name, value in query if not name.startswith(("ssl", "gss"))]
        if to.path:
            place = Path(to.path)
            query += [("host", str(place.parent)), ("port", place.name.rpartition(".")[2])]
        else:
            netloc += f"{to.host}:{to.port}"
        return urlunsplit((parts.scheme, netloc, parts.path, urlencode(query, quote_via=quote, safe="/"), ""))
    if to.path:
        if parts.scheme != "unix" and parts.path.strip("/"):
            query.append(("db", parts.path.strip("/")))
        return urlunsplit(("unix", netloc, to.path, urlencode(query), ""))
    if parts.scheme != "unix":
        return urlunsplit((parts.scheme, f"{netloc}{to.host}:{to.port}", parts.path, urlencode(query), ""))
    database = next((value for name, value in query if name == "db"), "0")
    rest = [(name, value) for name, value in query if name != "db"]
    return urlunsplit(("redis", f"{netloc}{to.host}:{to.port}", f"/{database}", urlencode(rest), ""))


def _split(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in _POSTGRES | _REDIS:
        raise SettingsError(
            f"a fault proxy stands before postgresql://, redis://, valkey:// and unix:// URLs, not {parts.scheme}://;"
            " it speaks no TLS: for a test, let the server take plain connections"
        )
    return parts
