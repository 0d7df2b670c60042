"""What `manage.py check` says of Workhorse: each fault names the line to change."""

import re
from collections.abc import Iterator
from typing import Any, Final, cast

from django.conf import settings
from django.core import checks
from django.db import connections

from workhorse.errors import SettingsError
from workhorse.integrations.django.conf import service_settings, units, units_alias
from workhorse.integrations.django.database import refusal_of

__all__ = ["MIDDLEWARE", "check_connections", "check_settings", "register_checks"]

MIDDLEWARE: Final = "workhorse.integrations.django.UnitMiddleware"
# Django has no types.
CHECKS: Final = cast("Any", checks)
DJANGO_SETTINGS: Final = cast("Any", settings)
DJANGO_CONNECTIONS: Final = cast("Any", connections)
_TIMEOUT: Final = re.compile(r"\bstatement_timeout\b")


def register_checks() -> None:
    """Have Django run them."""
    CHECKS.register(check_settings, "workhorse")
    CHECKS.register(check_connections, "workhorse", deploy=True)


def check_settings(**_: object) -> list[Any]:
    """What would keep a service from starting, or break a promise of it."""
    return [*_of_settings(), *_of_middleware()]


def _of_settings() -> Iterator[Any]:
    for read in (units_alias, units):
        try:
            read()
        except SettingsError as error:
            yield CHECKS.Error(str(error), hint="Change it in the settings module.", id="workhorse.E001")
            return
    alias = units_alias()
    refusal = refusal_of(alias)
    if refusal:
        yield CHECKS.Error(refusal, id="workhorse.E002")
        return
    if not DJANGO_CONNECTIONS.settings[alias]["AUTOCOMMIT"]:
        yield CHECKS.Error(
            f"DATABASES[{alias!r}]['AUTOCOMMIT'] is off, so no unit can begin.",
            hint="Take it out: a unit is one transaction by itself.",
            id="workhorse.E003",
        )
    try:
        service_settings()
    except SettingsError as error:
        yield CHECKS.Error(f"WORKHORSE: {error}", hint="`workhorse config` lists all settings.", id="workhorse.E004")


def _of_middleware() -> Iterator[Any]:
    order = list(DJANGO_SETTINGS.MIDDLEWARE)
    if MIDDLEWARE not in order:
        yield CHECKS.Warning(
            "UnitMiddleware is not in MIDDLEWARE: a view's ORM writes commit by themselves, before the reply is"
            " known, unless the view calls unit() first.",
            hint=f"MIDDLEWARE = [{MIDDLEWARE!r}, ...]",
            id="workhorse.W001",
        )
    elif order.index(MIDDLEWARE):
        yield CHECKS.Warning(
            f"UnitMiddleware comes after {', '.join(order[: order.index(MIDDLEWARE)])} in MIDDLEWARE. A transaction"
            " that one of these opens would end before the unit, which is then refused.",
            hint=f"Make {MIDDLEWARE!r} the first of MIDDLEWARE.",
            id="workhorse.W002",
        )


def check_connections(**_: object) -> list[Any]:
    """What is worth changing before production (`check --deploy`)."""
    return list(_of_connections())


def _of_connections() -> Iterator[Any]:
    try:
        alias = units_alias()
    except SettingsError:
        return
    if refusal_of(alias):
        return
    one: dict[str, Any] = DJANGO_CONNECTIONS.settings[alias]
    if one["CONN_MAX_AGE"] != 0:
        yield CHECKS.Warning(
            f"DATABASES[{alias!r}]['CONN_MAX_AGE'] is {one['CONN_MAX_AGE']!r}, but under ASGI each request has a thread"
            " of its own, with which its connection ends: nothing is kept.",
            hint=f"Take it out, and set DATABASES[{alias!r}]['OPTIONS']['pool'] = True.",
            id="workhorse.W003",
        )
    elif not one["OPTIONS"].get("pool"):
        yield CHECKS.Warning(
            f"DATABASES[{alias!r}] has no pool, so each request connects anew.",
            hint=f"DATABASES[{alias!r}]['OPTIONS']['pool'] = True",
            id="workhorse.W004",
        )
    if not _TIMEOUT.search(str(one["OPTIONS"].get("options", ""))):
        yield CHECKS.Warning(
            f"Connections of DATABASES[{alias!r}] have no statement_timeout: a statement may hold its locks for ever.",
            hint=f"DATABASES[{alias!r}]['OPTIONS']['options'] ="
            " '-c statement_timeout=30s -c idle_in_transaction_session_timeout=60s'",
            id="workhorse.W005",
        )
