"""Workhorse's settings in a Django project, read from the project's own settings module.

    WORKHORSE = {"guard": {"allowed_hosts": ["bank.example"]}}    what `workhorse config` lists, as nested dicts
    WORKHORSE_DATABASE = "default"                                the key of DATABASES that units run on
    WORKHORSE_UNITS = "unsafe"                                    which requests have a unit around their view

The environment and pyproject.toml are read as in any other project; what WORKHORSE says wins over them. The database's
URL is that of DATABASES, unless somebody names another way to it: another host, such as one past a pooler. Hosts are
those of ALLOWED_HOSTS, unless somebody names `guard.allowed_hosts`.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args
from urllib.parse import quote, unquote, urlencode, urlsplit

from django.conf import settings
from django.core import mail
from django.db import DEFAULT_DB_ALIAS, connections

from workhorse.errors import SettingsError
from workhorse.settings import Settings, load_settings

__all__ = ["Units", "database_url", "guard_hosts", "service_settings", "units", "units_alias"]

Units = Literal["unsafe", "every", "asked"]
"""`unsafe`: requests that may write, by their method, and all where the database has ATOMIC_REQUESTS; `every`: all;
`asked`: only those whose view calls `unit()`."""

# Django has no types.
DJANGO_SETTINGS: Final = cast("Any", settings)
DJANGO_CONNECTIONS: Final = cast("Any", connections)
# What libpq takes in a URL; what else OPTIONS has is Django's own.
URL_OPTIONS: Final = ("options", "sslmode", "sslrootcert", "sslcert", "sslkey", "target_session_attrs", "service")


def units_alias() -> str:
    """The key of DATABASES that units run on: WORKHORSE_DATABASE.

    Raises:
        SettingsError: it is not a text.
    """
    alias: object = getattr(DJANGO_SETTINGS, "WORKHORSE_DATABASE", DEFAULT_DB_ALIAS)
    if not isinstance(alias, str):
        raise SettingsError(f"WORKHORSE_DATABASE is {alias!r}; it is a key of DATABASES")
    return alias


def units() -> Units:
    """Which requests have a unit around their view: WORKHORSE_UNITS.

    Raises:
        SettingsError: it is none of the words.
    """
    found: object = getattr(DJANGO_SETTINGS, "WORKHORSE_UNITS", "unsafe")
    if found not in get_args(Units):
        raise SettingsError(f"WORKHORSE_UNITS is {found!r}; it is one of {', '.join(get_args(Units))}")
    return cast("Units", found)


def service_settings() -> Settings:
    """The settings of the service, as WORKHORSE, the environment and pyproject.toml say.

    Raises:
        SettingsError: a name is unknown, a value is malformed, or production refuses a value.
    """
    given: object = getattr(DJANGO_SETTINGS, "WORKHORSE", {})
    if not isinstance(given, Mapping):
        raise SettingsError(
            f"WORKHORSE is {type(given).__name__}; it is a dict, such as {{'log': {{'level': 'info'}}}}"
        )
    overrides = dict(cast("Mapping[str, Any]", given))
    base: object = getattr(DJANGO_SETTINGS, "BASE_DIR", None)
    database = dict(overrides.get("database", {}))
    named = "url" in database or os.environ.get("DATABASE_URL") or os.environ.get("WORKHORSE_DATABASE__URL")
    own = database_url(units_alias())
    if not named or _in_tests():
        overrides["database"] = {**database, "url": own}
    project = Path(str(base)) if base else None
    loaded = load_settings(project, **overrides)
    hosts = guard_hosts(getattr(DJANGO_SETTINGS, "ALLOWED_HOSTS", ()))
    if hosts and not loaded.guard.allowed_hosts and not loaded.guard.insecure_any_host:
        overrides["guard"] = {**dict(overrides.get("guard", {})), "allowed_hosts": hosts}
        loaded = load_settings(project, **overrides)
    url = loaded.database.url.get_secret_value() if loaded.database.url else own
    names = [unquote(urlsplit(one).path.lstrip("/")) for one in (url, own)]
    if names[0] and names[1] and names[0] != names[1]:
        raise SettingsError(
            f"database.url (DATABASE_URL) leads to the database {names[0]!r}, and units run on {names[1]!r} of"
            f" DATABASES[{units_alias()!r}]. Replies, jobs and events are where units run: make the two one database,"
            " or name another key of DATABASES in WORKHORSE_DATABASE"
        )
    return loaded


def guard_hosts(allowed: Sequence[str]) -> tuple[str, ...]:
    """Django's ALLOWED_HOSTS as `guard.allowed_hosts`; nothing of a list that allows any host.

    `.example.com` is the host and all below it; the guard has a word for each.
    """
    if "*" in allowed:
        return ()
    pairs = ((host[1:], f"*{host}") if host.startswith(".") else (host,) for host in allowed)
    return tuple(dict.fromkeys(host for pair in pairs for host in pair))


def _in_tests() -> bool:
    """Whether Django's test runner has put databases of its own into the place of those in DATABASES."""
    return hasattr(mail, "outbox")


def database_url(alias: str) -> str:
    """The libpq URL of the database that DATABASES names.

    Raises:
        SettingsError: there is no such key, or it names no database.
    """
    known: Mapping[str, Mapping[str, Any]] = DJANGO_CONNECTIONS.settings
    if alias not in known:
        raise SettingsError(f"DATABASES has no {alias!r}; it has: {', '.join(known)}. Change WORKHORSE_DATABASE")
    # A test's database has another name than its settings say at first; Django changes them in place.
    one = known[alias]
    options = {name: one["OPTIONS"][name] for name in URL_OPTIONS if name in one["OPTIONS"]}
    host = str(one["HOST"] or "")
    if host.startswith("/"):  # the folder of a Unix socket
        options["host"], host = host, ""
    user = quote(str(one["USER"]), safe="") if one["USER"] else ""
    password = ":" + quote(str(one["PASSWORD"]), safe="") if one["PASSWORD"] else ""
    login = f"{user}{password}@" if user else ""
    port = f":{one['PORT']}" if one["PORT"] else ""
    query = f"?{urlencode(options, quote_via=quote)}" if options else ""
    return f"postgresql://{login}{host}{port}/{quote(str(one['NAME'] or ''), safe='')}{query}"
