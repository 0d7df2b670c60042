"""What `manage.py check` says of Workhorse: each fault names the line to change.

Errors would break a promise, so a service does not start with them (`refuse_errors`). Warnings are worth a look.
`check --deploy` also says what production refuses, and which of Django's own middleware does again what the guard does.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, cast

from django.conf import settings
from django.core import checks
from django.db import connections

from workhorse.errors import SettingsError
from workhorse.integrations.django.conf import service_settings, units, units_alias
from workhorse.integrations.django.database import refusal_of
from workhorse.settings import unsafe_settings

__all__ = ["MIDDLEWARE", "check_deployment", "check_settings", "refuse_errors", "register_checks"]

MIDDLEWARE: Final = "workhorse.integrations.django.UnitMiddleware"
# Django has no types.
CHECKS: Final = cast("Any", checks)
DJANGO_SETTINGS: Final = cast("Any", settings)
DJANGO_CONNECTIONS: Final = cast("Any", connections)
# Django's own middleware, and what of the guard's stands for it.
REPLACED: Final = {
    "django.middleware.security.SecurityMiddleware": (
        (
            "the guard redirects to HTTPS and sets Strict-Transport-Security, X-Content-Type-Options, Referrer-Policy"
            " and Cross-Origin-Opener-Policy by `guard.https` and its other settings"
        ),
        ["security.W001"],
    ),
    "django.middleware.clickjacking.XFrameOptionsMiddleware": (
        "the guard sets X-Frame-Options and frame-ancestors",
        ["security.W002"],
    ),
    "django.middleware.csrf.CsrfViewMiddleware": (
        "the guard refuses what other sites send; the admin and Django's login form ask for their tokens all the same",
        ["security.W003"],
    ),
}
_TIMEOUT: Final = re.compile(r"\bstatement_timeout\b")


def register_checks() -> None:
    """Have Django run them."""
    CHECKS.register(check_settings, "workhorse")
    CHECKS.register(check_deployment, "workhorse", deploy=True)


def refuse_errors() -> None:
    """Refuse a project with errors.

    Raises:
        SettingsError: there are some; it names them all, and the lines to change.
    """
    errors = [one for one in check_settings() if one.level >= CHECKS.ERROR]
    if errors:
        said = [f"{one.msg} {one.hint or ''}".rstrip() for one in errors]
        raise SettingsError(said[0] if len(said) == 1 else "".join(f"\n  {line}" for line in said))


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
    if order.count(MIDDLEWARE) > 1:
        yield CHECKS.Error(
            f"{MIDDLEWARE!r} is in MIDDLEWARE {order.count(MIDDLEWARE)} times.",
            hint="Take out all but the first.",
            id="workhorse.E005",
        )
    if MIDDLEWARE not in order:
        promise = _promise_of_units()
        if promise:
            yield CHECKS.Error(
                f"{promise} UnitMiddleware, which does so, is not in MIDDLEWARE.",
                hint=f"MIDDLEWARE = [{MIDDLEWARE!r}, ...]",
                id="workhorse.E006",
            )
            return
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


def _promise_of_units() -> str:
    """What the settings say of units that nothing would keep without the middleware; empty if they say nothing."""
    try:
        alias = units_alias()
    except SettingsError:
        return ""
    wish: object = getattr(DJANGO_SETTINGS, "WORKHORSE_UNITS", "asked")
    if wish != "asked":
        return f"WORKHORSE_UNITS is {wish!r}, which has units opened around views."
    one: dict[str, Any] = DJANGO_CONNECTIONS.settings.get(alias, {})
    if one.get("ATOMIC_REQUESTS"):
        return (
            f"DATABASES[{alias!r}]['ATOMIC_REQUESTS'] puts each view into a transaction, which without a unit around it"
            " would commit before the reply is known."
        )
    return ""


def check_deployment(**_: object) -> list[Any]:
    """What is worth changing before production (`check --deploy`)."""
    return [*_of_connections(), *_of_production(), *_of_replaced()]


def _of_production() -> Iterator[Any]:
    try:
        settings = service_settings()
    except SettingsError:  # said already
        return
    for one in unsafe_settings(settings):
        yield CHECKS.Warning(f"WORKHORSE: {one.name}: {one.reason}.", hint=one.mend, id="workhorse.W006")


def _of_replaced() -> Iterator[Any]:
    if not isinstance(getattr(DJANGO_SETTINGS, "WORKHORSE_SERVICE", None), str):
        return  # it is not known whether a guard stands around the project
    for name, (why, ids) in REPLACED.items():
        silenced = [id_ for id_ in ids if id_ not in DJANGO_SETTINGS.SILENCED_SYSTEM_CHECKS]
        if name in DJANGO_SETTINGS.MIDDLEWARE:
            yield CHECKS.Info(
                f"{name!r} may be taken out of MIDDLEWARE: {why}. No header is said twice if it stays.",
                hint=f"Where it is out: SILENCED_SYSTEM_CHECKS = {ids!r}",
                id="workhorse.I001",
            )
        elif silenced:
            yield CHECKS.Info(
                f"{name!r} is not in MIDDLEWARE, and need not be: {why}.",
                hint=f"SILENCED_SYSTEM_CHECKS = {silenced!r}",
                id="workhorse.I002",
            )


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
