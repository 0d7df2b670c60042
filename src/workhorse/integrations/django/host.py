"""What a `Service` does for a Django project: units on its connection, and a thread a request that is left tidy.

    Service ── Guard ── enclose ── UnitLayer ── inside ── Django

`enclose` gives the request its thread before Django would, so that a unit which is begun before the app runs is begun
there, and closes at the end what is still open in it: each request's thread is a new one, so a connection that is kept
in it is lost. `inside` raises what Django made a 500 of, where the request is to be run again because of it.
"""

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, cast

from django.apps import apps
from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import got_request_exception, request_started

from workhorse.asgi import ASGIApp, Receive, Scope, Send
from workhorse.contracts import Database
from workhorse.errors import SettingsError
from workhorse.integrations.django.checks import refuse_errors
from workhorse.integrations.django.conf import service_settings, units_alias
from workhorse.integrations.django.database import DjangoDatabase
from workhorse.integrations.django.place import PLACE
from workhorse.settings import Settings

if TYPE_CHECKING:
    from workhorse.jobs import Job

__all__ = ["APP", "DjangoHost", "host_of", "listen"]

APP: Final = "workhorse.integrations.django"
# Django has no types.
DJANGO_APPS: Final = cast("Any", apps)
STARTED: Final = cast("Any", request_started)
FAILED: Final = cast("Any", got_request_exception)


class DjangoHost:
    """What stands around and inside the unit layer of a Django project.

    Args:
        database: where its units run; by default on the connection that WORKHORSE_DATABASE names.

    Raises:
        SettingsError: units cannot run there.
    """

    def __init__(self, database: DjangoDatabase | None = None) -> None:
        self.database = database if database is not None else DjangoDatabase(units_alias())

    def settings(self) -> Settings:
        """The project's settings.

        Raises:
            SettingsError: see `conf.service_settings`; or a check of ours has found an error (`checks`).
        """
        refuse_errors()
        return service_settings()

    def jobs(self) -> "tuple[Job[Any, Any], ...]":
        """The jobs that Django's Tasks are run by, where TASKS has our backend.

        Raises:
            SettingsError: an entry of TASKS cannot be read.
        """
        if find_spec("django.tasks") is None:  # before Django 6.0
            return ()
        # Only here, because earlier versions of Django have no such package.
        from workhorse.integrations.django.tasks import task_jobs  # noqa: PLC0415

        return task_jobs()

    async def close(self) -> None:
        """Wait for the connections of requests that were served, which are closed after their replies."""
        await self.database.close()

    def enclose(self, layer: ASGIApp) -> ASGIApp:
        """The unit layer, with a thread for each request.

        Raises:
            SettingsError: a check of ours has found an error (`checks`).
        """
        refuse_errors()

        async def enclosed(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await layer(scope, receive, send)
                return
            place = self.database.place()
            place.enter()
            try:
                await place.keep_open()
                await layer(scope, receive, send)
            finally:
                place.leave()

        return enclosed

    def inside(self, app: ASGIApp) -> ASGIApp:
        """The app, whose swallowed conflicts are raised."""

        async def raising(scope: Scope, receive: Receive, send: Send) -> None:
            place = PLACE.get()
            if place is not None:
                place.error = None
            await app(scope, receive, send)
            if place is not None and place.taken and place.error is not None and self._is_worth_raising(place.error):
                raise place.error

        return raising

    def _is_worth_raising(self, error: BaseException) -> bool:
        database = self.database
        return database.conflicted(error) or database.disconnected(error) or database.timed_out(error)


def host_of(app: object, database: Database | None = None) -> DjangoHost | None:
    """The host of a Django project in which this app is installed; None for any other app, and on another database.

    Raises:
        SettingsError: units cannot run on the project's database, the app is not installed, or it is a WSGI app.
    """
    if database is not None and not isinstance(database, DjangoDatabase):
        return None
    if not isinstance(app, BaseHandler):
        return None
    if isinstance(app, WSGIHandler):
        raise SettingsError(
            "the service was given Django's WSGI app: make it Service(get_asgi_application(), ...), with"
            " `from django.core.asgi import get_asgi_application`; sync views run there as they are"
        )
    if not DJANGO_APPS.is_installed(APP):
        if database is None:
            return None
        raise SettingsError(f"the service runs over {database!r}: put {APP!r} into INSTALLED_APPS")
    return DjangoHost(database)


def listen() -> None:
    """Hear of Django's requests. Connecting twice changes nothing."""
    STARTED.connect(_remember_connection, dispatch_uid="workhorse.remember_connection")
    FAILED.connect(_remember_error, dispatch_uid="workhorse.remember_error")


def _remember_connection(**_: object) -> None:
    """Called in the request's thread, together with Django's own receivers, before anything of the app."""
    place = PLACE.get()
    if place is not None:
        place.find()


def _remember_error(**_: object) -> None:
    """Called while the exception is handled."""
    place = PLACE.get()
    if place is not None:
        place.error = sys.exc_info()[1]
