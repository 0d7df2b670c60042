"""Schemas as numbered .sql files that are applied once each, in order, and only forward.

Workhorse's own are in this folder (`WORKHORSE`); an app may bring its own set beside Alembic or Django, or instead.
A migration must leave the old code running: it adds, and a later release takes away (expand, then contract); `safety`
says what does not. `standing` compares them with what a database has, `state.postgres.migrate` applies them, each in a
transaction with its record. What Postgres runs in no transaction has a file of its own: see `script`.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Final, Self

from workhorse.errors import StartupError

__all__ = ["WORKHORSE", "Migration", "Migrations"]

_FILE: Final = re.compile(r"^(?P<number>\d{4})_(?P<name>[a-z0-9_]+)\.sql$")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. `checksum` is the SHA-256 of its text, so that a change after the fact is noticed."""

    number: int
    name: str
    sql: str

    @property
    def label(self) -> str:
        """Such as `0001_replies`."""
        return f"{self.number:04d}_{self.name}"

    @property
    def checksum(self) -> str:
        """64 hexadecimal digits."""
        return sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Migrations:
    """A numbered set of migrations that a package carries.

    Args:
        name: names the set in the database; it never changes.
        package: an importable package.
        folder: where in it the files `0001_name.sql`, `0002_...` lie.
        steps: instead of a package, the SQL itself, for an app of one file (`Migrations.inline`).
        lint_from: the first number that `workhorse migrate --check` looks at; what is before is applied everywhere, and
            cannot be mended any more.
    """

    name: str
    package: str
    folder: str = "sql/migrations"
    steps: tuple[str, ...] = ()
    lint_from: int = 1

    @classmethod
    def inline(cls, name: str, *steps: str) -> Self:
        """A set whose migrations stand in the code. Add further ones at the end; never change one."""
        return cls(name, package="", steps=steps)

    def load(self) -> list[Migration]:
        """Read the files in order.

        Raises:
            StartupError: the folder is missing, a .sql file is misnamed, or a number is missing or there twice.
        """
        if self.steps:
            return [Migration(number, "inline", sql) for number, sql in enumerate(self.steps, start=1)]
        place = f"{self.package}/{self.folder}"
        try:
            entries = sorted(files(self.package).joinpath(self.folder).iterdir(), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError, ModuleNotFoundError) as error:
            raise StartupError(f"the migrations {self.name!r} are not at {place}: {error}") from error
        migrations: list[Migration] = []
        for entry in entries:
            if not entry.name.endswith(".sql"):
                continue
            match = _FILE.match(entry.name)
            if match is None:
                raise StartupError(f"{place}/{entry.name} is not named `0001_what_it_does.sql`; rename it")
            expected = len(migrations) + 1
            if int(match["number"]) != expected:
                raise StartupError(f"{place}/{entry.name}: the next number is {expected:04d}; renumber the file")
            migrations.append(Migration(expected, match["name"], entry.read_text(encoding="utf-8")))
        return migrations


WORKHORSE: Final = Migrations("workhorse", "workhorse.migrations", ".")
