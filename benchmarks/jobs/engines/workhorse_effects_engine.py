"""This project's, with jobs that write a row each, in one transaction with the job's end: its whole promise."""

from typing import Any, Final

from benchmarks.jobs.engine import Begin, Engine, Servers
from benchmarks.jobs.engines.workhorse_engine import Workhorse
from workhorse.jobs import Job, job
from workhorse.migrations import WORKHORSE, Migrations
from workhorse.state.postgres.migrate import apply_migrations
from workhorse.units import unit

__all__ = ["make"]

TABLES: Final = Migrations.inline("jobs-benchmark", "CREATE TABLE effects (number int PRIMARY KEY)")


class WithEffects(Workhorse):
    """No more jobs at once than make sense of the eight connections that they share."""

    at_once = 16

    async def prepare(self) -> None:
        """Make the rows' table as well."""
        await apply_migrations(self.servers.database, [WORKHORSE, TABLES])

    def kind(self, begin: Begin) -> Job[[int], Any]:
        """A second run of one number would fail."""

        @job(name="effect")
        async def effect(number: int) -> None:
            begin(number)
            await (await unit()).execute("INSERT INTO effects (number) VALUES (%s)", (number,))

        return effect


def make(servers: Servers) -> Engine:
    """The engine."""
    return WithEffects(servers)
