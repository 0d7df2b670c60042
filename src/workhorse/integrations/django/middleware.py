"""Opens the unit around a view, and answers a `Problem` that a view raises.

The unit is opened before the view, as Django's ATOMIC_REQUESTS would open a transaction, for requests that may write:
so a view's ORM writes are in it whether or not the view asks for the unit. It ends with the reply, where it was begun:
in the `UnitLayer` around the app. Under Django's test client and under WSGI there is none; there this middleware ends
it.

A view that has opted out of ATOMIC_REQUESTS (`@transaction.non_atomic_requests`) has opted out of this as well.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from asgiref import sync
from django.db import connections
from django.http import HttpResponse

from workhorse.errors import Problem
from workhorse.integrations.django.conf import units, units_alias
from workhorse.integrations.django.database import DjangoDatabase
from workhorse.integrations.django.hosted import HostedUnit, LoopThread
from workhorse.integrations.django.place import PLACE, Place
from workhorse.problems import render_problem, request_instance
from workhorse.units import sync_unit, unit
from workhorse.units.work import OPENER

__all__ = ["UnitMiddleware"]

# RFC 9110, section 9.2.1.
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
# Django has no types; and what asgiref has for 3.11 is deprecated on later ones.
ASGIREF: Final = cast("Any", sync)
DJANGO_CONNECTIONS: Final = cast("Any", connections)
DJANGO_RESPONSE: Final = cast("Any", HttpResponse)


class UnitMiddleware:
    """A middleware of Django's, for MIDDLEWARE: the first of the list.

    Raises:
        SettingsError: units cannot run on the database that WORKHORSE_DATABASE names.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self._get_response = get_response
        self._alias = units_alias()
        self._wish = units()
        self._database = DjangoDatabase(self._alias)
        self._atomic_requests = bool(DJANGO_CONNECTIONS.settings[self._alias]["ATOMIC_REQUESTS"])
        self.process_view: Callable[..., Any] = self._before_view
        if ASGIREF.iscoroutinefunction(get_response):
            self.process_view = self._before_view_async
            ASGIREF.markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """Serve one request."""
        if ASGIREF.iscoroutinefunction(self):
            return self._serve_async(request)
        if OPENER.get(None) is not None:
            return self._get_response(request)
        place = Place(self._alias)
        place.find()
        with LoopThread.running() as thread:
            hosted = HostedUnit(self._database, thread)
            place_before, opener_before = PLACE.set(place), OPENER.set(hosted)
            status = 500
            try:
                response = self._get_response(request)
                status = response.status_code
            finally:
                try:
                    if hosted.opened:
                        thread.wait_for(hosted.settle(status))
                finally:
                    OPENER.reset(opener_before)
                    PLACE.reset(place_before)
            return response

    async def _serve_async(self, request: Any) -> Any:
        respond = cast("Callable[[Any], Awaitable[Any]]", self._get_response)
        if OPENER.get(None) is not None:
            return await respond(request)
        place = Place(self._alias)
        await ASGIREF.sync_to_async(place.find)()
        hosted = HostedUnit(self._database, asyncio.get_running_loop())
        place_before, opener_before = PLACE.set(place), OPENER.set(hosted)
        status = 500
        try:
            response = await respond(request)
            status = response.status_code
        finally:
            try:
                await hosted.settle(status)
            finally:
                OPENER.reset(opener_before)
                PLACE.reset(place_before)
        return response

    # Django asks process_exception of a view's exceptions only, so these two answer their own.
    def _before_view(self, request: Any, view: Any, *_: object) -> Any:
        try:
            if self._wants_unit(request, view):
                sync_unit()
        except Problem as problem:
            return self.process_exception(request, problem)
        return None

    async def _before_view_async(self, request: Any, view: Any, *_: object) -> Any:
        try:
            if self._wants_unit(request, view):
                await unit()
        except Problem as problem:
            return self.process_exception(request, problem)
        return None

    def process_exception(self, request: Any, exception: Exception) -> Any:  # noqa: ARG002 - the signature is Django's
        """Answer a `Problem` as an RFC 9457 document; let any other exception pass."""
        if not isinstance(exception, Problem):
            return None
        reply = render_problem(exception, instance=request_instance())
        response = DJANGO_RESPONSE(reply.body, status=reply.status)
        for name, value in reply.headers:
            response[name.decode("latin-1")] = value.decode("latin-1")
        return response

    def _wants_unit(self, request: Any, view: Any) -> bool:
        if self._alias in getattr(view, "_non_atomic_requests", ()):
            return False
        if self._wish == "asked":
            return False
        return self._wish == "every" or self._atomic_requests or request.method not in SAFE
