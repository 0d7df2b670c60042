"""Has the pages of errors made in the request's thread, and so on the request's connection.

Under ASGI, Django up to 6.1 makes the reply to an exception in any thread of the event loop's executor
(https://code.djangoproject.com/ticket/36027). A page that reads the database, as one with the user's name in its head
does, then opens a connection there that nobody closes: with a pool, as many such pages as the pool has connections stop
the service; without one, the page fails for good once the server has closed the connection. In a `TestCase` it sees
nothing of the test's rows. Later versions of Django do it in the request's thread, as here.

One case is left to another thread: where the unit's transaction has failed, its connection answers no more questions.
What is opened there is closed after the page.
"""

from collections.abc import Callable
from typing import Any, Final, cast

from asgiref.sync import sync_to_async
from django.core.handlers import exception

from workhorse.integrations.django.place import PLACE, close_here

__all__ = ["stay_in_thread"]

# Django has no types.
DJANGO: Final = cast("Any", exception)


def stay_in_thread() -> None:
    """Have Django do so. Calling it twice changes nothing."""
    # The name by which the functions around each middleware find it when they are called.
    DJANGO.sync_to_async = _adapted


def _adapted(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What `sync_to_async` is in Django's module."""
    if function is DJANGO.response_for_exception:
        return _respond
    return cast("Any", sync_to_async)(function, *args, **options)


async def _respond(request: Any, error: Exception) -> Any:
    """Django's reply to an exception."""
    place = PLACE.get()
    if place is not None and place.failed:
        return await sync_to_async(_respond_elsewhere, thread_sensitive=False)(request, error)
    return await sync_to_async(DJANGO.response_for_exception)(request, error)


def _respond_elsewhere(request: Any, error: Exception) -> Any:
    try:
        return DJANGO.response_for_exception(request, error)
    finally:
        close_here()
