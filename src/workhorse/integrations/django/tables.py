"""Workhorse's tables in a Django project: made and kept up to date by Django's own `migrate`.

`migrations/0001_workhorse.py` is what Django's plan shows. Later versions of Workhorse bring migrations of their own,
which a file that Django has recorded would not run again: so they are applied after each `migrate` as well.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from workhorse.integrations.django.conf import database_url, units_alias
from workhorse.migrations import WORKHORSE
from workhorse.state.postgres.migrate import apply_migrations

__all__ = ["apply", "apply_after_migrate"]


def apply(_: object, schema_editor: Any) -> None:
    """Apply what the database of the units lacks; for the other databases there is nothing to do.

    Raises:
        StartupError: a migration failed; the message says what stands.
    """
    _apply(str(schema_editor.connection.alias))


def apply_after_migrate(*, using: str, **_: object) -> None:
    """The same, as a receiver of Django's `post_migrate`.

    Raises:
        StartupError: as above.
    """
    _apply(using)


def _apply(alias: str) -> None:
    if alias != units_alias():
        return
    with ThreadPoolExecutor(1) as thread:  # the caller may run in a loop
        thread.submit(lambda: asyncio.run(apply_migrations(database_url(alias), [WORKHORSE]))).result()
