"""What stands around units for the app's framework: for Django, which keeps connections of its own a thread."""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from workhorse.asgi import ASGIApp
from workhorse.contracts import Database
from workhorse.settings import Settings

if TYPE_CHECKING:
    from workhorse.jobs import Job

__all__ = ["Host", "host_of"]


class Host(Protocol):
    """What a framework asks for beside the unit layer."""

    @property
    def database(self) -> Database:
        """Where units run."""
        ...

    def settings(self) -> Settings:
        """The settings of the project."""
        ...

    def jobs(self) -> "tuple[Job[Any, Any], ...]":
        """Jobs of the framework's own."""
        ...

    async def close(self) -> None:
        """End what the framework has begun for requests. Called when the last one has its reply."""
        ...

    def enclose(self, layer: ASGIApp) -> ASGIApp:
        """What is called in the stead of the unit layer."""
        ...

    def inside(self, app: ASGIApp) -> ASGIApp:
        """What the unit layer calls in the stead of the app."""
        ...


def host_of(app: object, database: Database | None) -> Host | None:
    """The host of the app, if its framework needs one and Workhorse is installed in its project.

    Args:
        app: the app of the framework.
        database: where units run, if somebody has said it.

    Raises:
        SettingsError: the framework's own settings do not allow for units.
    """
    if "django.core.handlers.base" not in sys.modules:
        return None
    # Only here, because it needs Django.
    found: Host | None = import_module("workhorse.integrations.django.host").host_of(app, database)
    return found
