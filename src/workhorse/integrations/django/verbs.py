"""Verbs of Workhorse's command line as commands of manage.py: the same arguments, the project's own settings."""

import os
from argparse import REMAINDER
from collections.abc import Sequence
from importlib import import_module
from typing import Any, ClassVar, Final, cast

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from workhorse.integrations.django.conf import database_url, units_alias

__all__ = ["VerbCommand"]

# Django has no types.
COMMAND_ERROR: Final = cast("type[Exception]", CommandError)
DJANGO_SETTINGS: Final = cast("Any", settings)


class VerbCommand(BaseCommand):  # type: ignore[misc]  # Django has no types
    """Runs one verb. WORKHORSE_SERVICE names the service, such as "bank.asgi:service", where the verb asks for one."""

    verb: ClassVar[str]
    takes_service: ClassVar[bool] = True
    requires_system_checks: ClassVar[list[str]] = []

    def add_arguments(self, parser: Any) -> None:
        """Take whatever the verb takes."""
        parser.add_argument("arguments", nargs=REMAINDER, help=f"as of `workhorse {self.verb} --help`")

    def handle(self, *_: object, arguments: Sequence[str], **__: object) -> None:
        """Run the verb.

        Raises:
            CommandError: it failed, and has said why.
        """
        given = list(arguments)
        if self.takes_service and not (given and ":" in given[0]):
            service: object = getattr(DJANGO_SETTINGS, "WORKHORSE_SERVICE", None)
            if not isinstance(service, str):
                raise COMMAND_ERROR(
                    'name the service: in WORKHORSE_SERVICE = "project.asgi:service", or as MODULE:NAME'
                )
            given.insert(0, service)
        before = os.environ.get("DATABASE_URL")
        if before is None:
            os.environ["DATABASE_URL"] = database_url(units_alias())
        try:
            # Only here: the command line stands above everything, and this is one way to call it.
            code: int = import_module("workhorse.cli").main([self.verb, *given])
        finally:
            if before is None:
                del os.environ["DATABASE_URL"]
        if code:
            failure = COMMAND_ERROR(f"workhorse {self.verb} failed")
            cast("Any", failure).returncode = code
            raise failure
