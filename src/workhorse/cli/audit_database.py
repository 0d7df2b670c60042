"""The verbs of `workhorse audit` that an operator uses, beside the database: export, status, and proofs from it.

They read the settings for where the database is, and need no key: what they give away is checked by whoever gets it.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

from workhorse.errors import SettingsError
from workhorse.sealer.anchors import ObjectAnchor
from workhorse.sealer.hosting import file_anchor, key_provider, s3_anchor
from workhorse.sealer.objects import open_s3
from workhorse.sealer.reading import LogReader, LogStatus, WitnessStatus
from workhorse.sealer.resuming import resume
from workhorse.service.rooms import find_urls
from workhorse.settings import Settings, load_settings
from workhorse.state.postgres.database import PostgresDatabase

__all__ = ["export_to", "fetch_anchors", "print_status", "prove_from_database", "render_status", "resume_restored"]

STATEMENT_SECONDS = 600.0


def export_to(folder: Path, *, with_events: bool) -> int:
    """Write an export into a new folder."""

    async def main() -> int:
        async with _reader(load_settings()) as reader:
            try:
                checkpoint = await reader.export(folder, with_events=with_events)
            except OSError as error:
                raise SettingsError(f"the export cannot be written: {error}") from error
        sys.stdout.write(f"{checkpoint.size} entries of {checkpoint.origin} are in {folder}\n")
        return 0

    return asyncio.run(main())


def fetch_anchors(folder: Path, address: str | None) -> int:
    """Write what an object store keeps into a new folder: of each key its oldest version, whatever lies over it."""
    settings = load_settings().audit if address is None else None
    store = open_s3(address or (settings.anchor_s3 if settings else ""), days=1)
    try:
        kept = ObjectAnchor(store).all()
        folder.mkdir(parents=True)
        for number, raw in enumerate(kept, 1):
            (folder / f"{number:010d}").write_bytes(raw)
    except OSError as error:
        raise SettingsError(f"the anchors cannot be written to {folder}: {error}; name a new folder") from error
    sys.stdout.write(f"{len(kept)} checkpoints of {store.name} are in {folder}\n")
    return 0 if kept else 1


def prove_from_database(event: str, *, show_data: bool) -> int:
    """Write the proof of an event to standard output."""
    try:
        event_id = UUID(event)
    except ValueError as error:
        raise SettingsError(f"{event!r} is no event's id; for an index: prove FOLDER INDEX") from error

    async def main() -> int:
        async with _reader(load_settings()) as reader:
            proof = await reader.prove(event_id, show_data=show_data)
        if proof is None:
            sys.stderr.write(f"workhorse: no checkpoint covers the event {event_id} yet, or there is none of this id\n")
            return 1
        sys.stdout.buffer.write(proof)
        return 0

    return asyncio.run(main())


def print_status(*, most_seconds: float) -> int:
    """Say how the log stands; 1 if events wait longer than they may."""

    async def main() -> int:
        async with _reader(load_settings()) as reader:
            status = await reader.status()
        sys.stdout.write(render_status(status))
        late = status.waiting > 0 and status.oldest_waiting_seconds > most_seconds
        if late:
            sys.stderr.write("workhorse: the sealer stands still or is behind; its log says `audit.refused` and why\n")
        return 1 if late or status.origin is None else 0

    return asyncio.run(main())


def resume_restored(*, confirmed: str) -> int:
    """Say what was found of a log that was restored into another cluster; go on with it, if its name is confirmed."""

    async def main() -> int:
        settings = load_settings()
        anchors = [anchor for anchor in (file_anchor(settings), s3_anchor(settings)) if anchor is not None]
        async with _database(settings) as database:
            found = await resume(database, key_provider(settings), anchors=anchors, confirmed=confirmed)
        sys.stdout.write(
            f"log         {found.origin}, {found.size} entries\n"
            f"restored    from the cluster {found.former_cluster} into {found.cluster}\n"
            f"waiting     {found.waiting} events without an entry, which are sealed next\n"
            f"gone        {found.gone} entries without their event: lost, or dropped with their month\n"
        )
        if found.done:
            sys.stdout.write("The log is gone on with; its next entry, audit.resumed, says so.\n")
            return 0
        sys.stdout.write(f"Nothing was changed. To go on: workhorse audit resume --confirm {found.origin}\n")
        return 1

    return asyncio.run(main())


def render_status(status: LogStatus) -> str:
    """The status for people."""
    age = status.checkpoint_age_seconds
    signed = "nothing" if age is None else f"{status.signed} entries, {age:.0f} s ago"
    oldest = f", the oldest for {status.oldest_waiting_seconds:.1f} s" if status.waiting else ""
    return (
        f"log         {status.origin or 'none: nothing was sealed in this database'}\n"
        f"sealed      {status.size} entries\n"
        f"signed      {signed}\n"
        f"waiting     {status.waiting} events{oldest}\n"
        f"{''.join(_render_witness(one) for one in status.witnesses)}"
    )


def _render_witness(one: WitnessStatus) -> str:
    ago = one.signed_seconds_ago
    signed = "has never signed" if ago is None else f"signed {one.size} entries, {ago:.0f} s ago"
    trouble = "" if one.trouble is None else f"; {one.failures} failures in a row: {one.trouble}"
    return f"witness     {one.witness.partition('+')[0]} {signed}{trouble}\n"


@asynccontextmanager
async def _reader(settings: Settings) -> AsyncGenerator[LogReader]:
    async with _database(settings) as database:
        yield LogReader(database, quorum=settings.audit.witness_quorum)


@asynccontextmanager
async def _database(settings: Settings) -> AsyncGenerator[PostgresDatabase]:
    async with find_urls(settings) as urls:
        database = PostgresDatabase(urls.database, pool_max=1, statement_timeout_seconds=STATEMENT_SECONDS)
        await database.open()
        try:
            yield database
        finally:
            await database.close()
