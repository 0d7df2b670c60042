"""Applies Workhorse's own set of migrations, by the code of `workhorse migrate`."""

from typing import Any, ClassVar, cast

from django.db import migrations

from workhorse.integrations.django.tables import apply

OPERATIONS = cast("Any", migrations)


class Migration(migrations.Migration):  # type: ignore[misc]  # Django has no types
    """Not in one transaction: each of Workhorse's own is in one, and waits for no lock of another."""

    atomic = False
    dependencies: ClassVar[list[tuple[str, str]]] = []
    operations: ClassVar[list[Any]] = [OPERATIONS.RunPython(apply, OPERATIONS.RunPython.noop)]
