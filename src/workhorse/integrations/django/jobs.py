"""Sync jobs that use the ORM: on the connection of the job's unit, which commits with the job's end.

    @job
    @with_orm
    def close_account(number: str) -> None:
        Account.objects.filter(number=number).update(closed=True)

A worker runs a sync job in a thread, and Django keeps a connection per thread. So the job's thread is given the
connection of the unit for as long as the function runs. An async job needs nothing but `await unit()`: what it does on
the ORM from then on is in its unit.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar, cast

from django.db import connections

from workhorse.integrations.django.conf import units_alias
from workhorse.integrations.django.place import PLACE, Place
from workhorse.units import sync_unit
from workhorse.units.work import OPENER

__all__ = ["with_orm"]

P = ParamSpec("P")
R = TypeVar("R")

# Django has no types.
DJANGO_CONNECTIONS: Final = cast("Any", connections)


def with_orm(function: Callable[P, R]) -> Callable[P, R]:
    """Open the job's unit before `function`, and have the ORM use its connection. Where no job runs, it is just called.

    Other databases of DATABASES keep the connections of the worker's thread, as in any thread.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if OPENER.get(None) is None:
            return function(*args, **kwargs)
        alias = units_alias()
        place = Place(alias, DJANGO_CONNECTIONS.create_connection(alias), once=True)
        token = PLACE.set(place)
        before = [one for one in DJANGO_CONNECTIONS.all(initialized_only=True) if one.alias == alias]
        DJANGO_CONNECTIONS[alias] = place.wrapper
        try:
            sync_unit()
            return function(*args, **kwargs)
        finally:
            del DJANGO_CONNECTIONS[alias]
            for one in before:
                DJANGO_CONNECTIONS[alias] = one
            PLACE.reset(token)

    return call
