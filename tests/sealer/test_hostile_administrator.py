"""What whoever has all rights on the database can do to the journal and its log, and who finds it.

Each is done to a real database. `verify` needs the public key alone. What is done with the private key too, or by
setting everything back, is a perfect log of another history: only a checkpoint that was kept elsewhere finds it.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.audit.kit import LOG, ORIGIN, TRUST
from tests.sealer.kit import emit, on_log, on_sealed, sealer, verify_export
from workhorse.audit import Fault, Trust
from workhorse.audit.faults import AuditFault
from workhorse.embedded import Attachment, drop_database, fresh_database
from workhorse.sealer import FileAnchor, KeyText

CHECKPOINTS = (201, 401, 601)
Sql = Callable[..., list[tuple[Any, ...]]]


TABLES = ("events", "feeds", "audit_log", "audit_entries", "audit_tiles", "audit_checkpoints")


@dataclass(frozen=True)
class Sealed:
    url: str
    anchors: list[bytes]
    ids: dict[int, str]


@pytest.fixture(scope="module")
def original(servers: Attachment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sealed]:
    """A log of 601 entries with three checkpoints, which an auditor has kept, and a copy of its tables."""
    url = fresh_database(servers.database_url)
    anchor = FileAnchor(tmp_path_factory.mktemp("anchor") / "anchor")

    async def script(database: Any, sql: Sql) -> dict[int, str]:
        one = sealer(database, anchors=[anchor])
        for first in (0, 200, 400):
            await emit(database, 200, first=first)
            await one.drain()
        sql("CREATE SCHEMA kept")
        for table in TABLES:
            sql(f"CREATE TABLE kept.{table} AS TABLE workhorse.{table}")
        return {index: str(id_) for index, id_ in sql("SELECT index, event_id FROM workhorse.audit_entries")}

    ids = on_log(url, script)
    yield Sealed(url, anchor.all(), ids)
    drop_database(url)


@pytest.fixture
def log(original: Sealed) -> Sealed:
    """It, as it was before the last tampering."""
    with psycopg.connect(original.url) as connection:
        for table in TABLES:
            connection.execute(f"TRUNCATE workhorse.{table}".encode())
            connection.execute(f"INSERT INTO workhorse.{table} SELECT * FROM kept.{table}".encode())  # noqa: S608
    return original


Do = Callable[[Any, Sql], Awaitable[None]]


def run(*statements: str) -> Do:
    """Statements of the administrator; `:350` is the id of the event of entry 350, on the day it was sealed."""

    async def do(_database: Any, sql: Sql) -> None:
        ids = {str(index): str(id_) for index, id_ in sql("SELECT index, event_id FROM workhorse.audit_entries")}
        for statement in statements:
            words = [
                f"'{ids[word[1:]]}'" if word[:1] == ":" and word[1:] in ids else word for word in statement.split()
            ]
            sql(" ".join(words))

    return do


def edit(column: str, value: str) -> Do:
    return run(f"UPDATE workhorse.events SET {column} = {value} WHERE id = :350")  # noqa: S608 - of this file


def insert(txid: str) -> Do:
    return run(
        "INSERT INTO workhorse.events (id, txid, type, subject, data, occurred_at)"  # noqa: S608 - of this file
        f" SELECT gen_random_uuid(), {txid}, type, subject, data, occurred_at FROM workhorse.events WHERE id = :350"
    )


CLEAR = "TRUNCATE workhorse.audit_log, workhorse.audit_entries, workhorse.audit_tiles, workhorse.audit_checkpoints"
EDIT = "UPDATE workhorse.events SET data = jsonb_set(data, '{amount}', '\"1000000\"') WHERE id = :350"
# What lies behind entry 401 is taken back as if it had never been: 145 hashes are left of the second tile.
BACK = (
    "DELETE FROM workhorse.events WHERE id IN (SELECT event_id FROM workhorse.audit_entries WHERE index >= 401)",
    "DELETE FROM workhorse.audit_entries WHERE index >= 401",
    "DELETE FROM workhorse.audit_checkpoints WHERE size > 401",
    "DELETE FROM workhorse.audit_tiles WHERE level = 0 AND index > 1",
    "UPDATE workhorse.audit_tiles SET width = 145, hashes = substring(hashes, 1, 4640) WHERE level = 0 AND index = 1",
    "UPDATE workhorse.audit_tiles SET width = 1, hashes = substring(hashes, 1, 32) WHERE level = 1",
    (
        "UPDATE workhorse.audit_log SET size = 401, root = decode(split_part((SELECT note FROM"
        " workhorse.audit_checkpoints WHERE size = 401), E'\\n', 3), 'base64')"
    ),
)


def rewritten(key: Any, *before: str) -> Do:
    """The log made anew from the journal as it is by then, and signed."""

    async def do(database: Any, sql: Sql) -> None:
        await run(*before, CLEAR, "DELETE FROM workhorse.feeds")(database, sql)
        await sealer(database, keys=KeyText(key)).drain()

    return do


async def forked(database: Any, sql: Sql) -> None:
    """Another history after entry 401, signed by the stolen key, and longer than what was kept."""
    await run(*BACK)(database, sql)
    await emit(database, 300, first=9_000)
    await sealer(database).drain()


async def skipped(database: Any, sql: Sql) -> None:
    await emit(database, 1, first=9_000)
    sql("UPDATE workhorse.feeds SET seen = pg_current_snapshot()")
    await emit(database, 1, first=9_001)
    await sealer(database).drain()


@dataclass(frozen=True)
class Tampering:
    name: str
    do: Do
    found: set[tuple[Fault, int | None]]
    last_good: int | None = 201
    anchored: bool = False
    """Whether it takes a kept checkpoint; without one all seems well."""
    trust: Trust = TRUST


OTHER = type(LOG)(ORIGIN, LOG.kind, bytes(32))
ONLY_NEW = Trust(origin=ORIGIN, logs=(OTHER.verifier,))
C, R, N = Fault.CHANGED, Fault.REMOVED, Fault.INSERTED
ALL = set(range(601))

TAMPERINGS = [
    Tampering("an amount is edited", run(EDIT), {(C, 350)}),
    Tampering("a subject is edited", edit("subject", "'account:mine'"), {(C, 350)}),
    Tampering("a type is edited", edit("type", "'transfer.refused'"), {(C, 350)}),
    Tampering("a time is edited", edit("occurred_at", "occurred_at - interval '1us'"), {(C, 350)}),
    Tampering("a caller is put in", edit("principal", "'mallory'"), {(C, 350)}),
    Tampering("a caller that was unknown is made empty", edit("principal", "''"), {(C, 350)}),
    Tampering("a request is put in", edit("request_id", "'r-1'"), {(C, 350)}),
    Tampering("a trace is put in", edit("trace_id", "'t-1'"), {(C, 350)}),
    Tampering("a member is added to the data", edit("data", "data || '{\"x\":null}'"), {(C, 350)}),
    Tampering("all data is blanked", run("UPDATE workhorse.events SET data = '{}'"), {(C, at) for at in ALL}, None),
    Tampering("an event is deleted", run("DELETE FROM workhorse.events WHERE id = :350"), {(R, 350)}),
    Tampering("the event of the key is deleted", run("DELETE FROM workhorse.events WHERE id = :0"), {(R, 0)}, None),
    Tampering("the last event is deleted", run("DELETE FROM workhorse.events WHERE id = :600"), {(R, 600)}, 401),
    Tampering("the tail of the journal is cut off", run(BACK[0]), {(R, at) for at in range(401, 601)}, 401),
    Tampering("the journal is emptied", run("TRUNCATE workhorse.events"), {(R, at) for at in ALL}, None),
    Tampering(
        "an event gets another id",
        edit("id", "(overlay(id::text placing 'ffff' from 25))::uuid"),
        {(R, 350), (N, None)},
    ),
    Tampering(
        "two events change their data",
        run(
            "UPDATE workhorse.events e SET data = o.data FROM workhorse.events o"
            " WHERE ( e.id = :350 AND o.id = :351 ) OR ( e.id = :351 AND o.id = :350 )"
        ),
        {(C, 350), (C, 351)},
    ),
    Tampering("an event of then is inserted", insert("txid"), {(N, None)}, 601),
    Tampering("an event that is never sealed is inserted", insert("'9000000000000'::xid8"), {(N, None)}, 601),
    Tampering(
        "an event and its entry are edited together",
        run(
            "UPDATE workhorse.events SET subject = 'account:mine' WHERE id = :350",
            "UPDATE workhorse.audit_entries SET entry = replace(entry, 't:349', 't:mine') WHERE index = 350",
        ),
        {(Fault.ENTRY_CHANGED, 350), (C, 350)},
    ),
    Tampering(
        "an entry is deleted",
        run("DELETE FROM workhorse.audit_entries WHERE index = 350"),
        {(Fault.ENTRY_CHANGED, 350), (R, 350), (N, None)},
    ),
    Tampering(
        "an event and its entry are deleted together",
        run("DELETE FROM workhorse.events WHERE id = :350", "DELETE FROM workhorse.audit_entries WHERE index = 350"),
        {(Fault.ENTRY_CHANGED, 350), (R, 350)},
    ),
    Tampering(
        "two entries are reordered",
        run(
            "UPDATE workhorse.audit_entries SET index = 9999 WHERE index = 350",
            "UPDATE workhorse.audit_entries SET index = 350 WHERE index = 351",
            "UPDATE workhorse.audit_entries SET index = 351 WHERE index = 9999",
        ),
        {(Fault.ENTRY_CHANGED, 350), (Fault.ENTRY_CHANGED, 351), (C, 350), (C, 351)},
    ),
    Tampering(
        "a tile of hashes is edited",
        run("UPDATE workhorse.audit_tiles SET hashes = set_byte(hashes, 3200, 7) WHERE level = 0 AND index = 1"),
        {(Fault.TILE_CHANGED, None)},
        601,  # the entries make the root by themselves
    ),
    Tampering(
        "a tile of hashes is deleted",
        run("DELETE FROM workhorse.audit_tiles WHERE level = 0 AND index = 1"),
        {(Fault.TILE_MISSING, None)},
        601,
    ),
    Tampering(
        "a checkpoint is edited",
        run("UPDATE workhorse.audit_checkpoints SET note = replace(note, E'\\n601\\n', E'\\n602\\n') WHERE size = 601"),
        # Held against the one before it then, for whose size the export has no partial tile of the upper level.
        {(Fault.CHECKPOINT, None), (Fault.TILE_MISSING, None), *((N, at) for at in range(401, 601))},
        401,
    ),
    Tampering(
        "an old checkpoint is replayed as the last",
        run(
            "UPDATE workhorse.audit_checkpoints SET note = (SELECT note FROM workhorse.audit_checkpoints"
            " WHERE size = 401) WHERE size = 601"
        ),
        {(Fault.ROLLED_BACK, None)},
        401,
        anchored=True,
    ),
    Tampering("the position is set forward", skipped, {(N, None)}, 602),
    Tampering(
        "all is written anew and signed with another key", rewritten(OTHER, EDIT), {(Fault.CHECKPOINT, None)}, None
    ),
    Tampering(
        "all is written anew and signed with a stolen old key",
        rewritten(LOG, EDIT),
        {(Fault.CHECKPOINT, None)},
        None,
        trust=ONLY_NEW,
    ),
    Tampering(
        "the last checkpoint is deleted",
        run("DELETE FROM workhorse.audit_checkpoints WHERE size = 601"),
        {(Fault.ROLLED_BACK, None)},
        401,
        anchored=True,
    ),
    Tampering("the database is rolled back", run(*BACK), {(Fault.ROLLED_BACK, None)}, 401, anchored=True),
    Tampering(
        "all is written anew and signed with the stolen key",
        rewritten(LOG, EDIT),
        {(Fault.FORKED, 201)},
        201,
        anchored=True,
    ),
    Tampering(
        "an event is dropped, and all written anew with the stolen key",
        rewritten(LOG, "DELETE FROM workhorse.events WHERE id = :350"),
        {(Fault.FORKED, 201)},
        201,
        anchored=True,
    ),
    Tampering("the log is forked with the stolen key", forked, {(Fault.FORKED, 401)}, 401, anchored=True),
]


@pytest.mark.parametrize("tampering", TAMPERINGS, ids=lambda one: one.name)
def test_a_tampering_is_found_and_named(log: Sealed, tmp_path: Path, tampering: Tampering) -> None:
    async def script(database: Any, sql: Sql) -> None:
        await tampering.do(database, sql)
        if tampering.anchored:
            blind = await verify_export(database, tmp_path / "blind", trust=tampering.trust)
            assert blind.ok, blind.findings
        anchors = log.anchors if tampering.anchored else []
        report = await verify_export(database, tmp_path / "export", trust=tampering.trust, anchors=anchors)
        found = {(one.fault, one.index) for one in report.findings}
        assert (found, report.last_good, report.ok) == (tampering.found, tampering.last_good, False)
        named = {one.index: one.event_id for one in report.findings if one.fault in {C, R} and one.event_id}
        if any(fault is Fault.ENTRY_CHANGED for fault, _ in found):
            return  # which event stands where is by the table that was tampered with, too
        assert named == {index: log.ids[index] for index in named if index is not None}

    on_sealed(log.url, script)


REFUSED = [
    ("the position is set back", run("UPDATE workhorse.feeds SET seen = '1:1:'"), "comes a second time"),
    ("the position is deleted", run("DELETE FROM workhorse.feeds"), "comes a second time"),
    ("the row of the log is deleted", run("DELETE FROM workhorse.audit_log"), "rolled back"),
    ("the root is edited", run("UPDATE workhorse.audit_log SET root = sha256('x')"), "does not begin with"),
    ("the size is edited", run("UPDATE workhorse.audit_log SET size = 600"), "rolled back"),
    (
        "the edge of the tree is edited",
        run("UPDATE workhorse.audit_tiles SET hashes = set_byte(hashes, 9, 7) WHERE index = 2"),
        "cannot be carried on",
    ),
    (
        "the last entry is edited",
        run("UPDATE workhorse.audit_entries SET entry = replace(entry, '599', '598') WHERE index = 600"),
        "cannot be carried on",
    ),
    ("the last entry is deleted", run("DELETE FROM workhorse.audit_entries WHERE index = 600"), "has no entry 600"),
    ("the database is rolled back", run(*BACK), "it was rolled back"),
    ("the log is forked with the stolen key", forked, "does not begin with the checkpoint of the anchor"),
    ("the log is signed anew by another key", rewritten(OTHER, EDIT), "not by a known key"),
]


@pytest.mark.parametrize(("name", "do", "words"), REFUSED, ids=[one[0] for one in REFUSED])
def test_the_sealer_signs_no_log_but_the_one_it_signed(
    log: Sealed, tmp_path: Path, name: str, do: Do, words: str
) -> None:
    anchor = FileAnchor(tmp_path / "anchor")
    anchor.path.write_bytes(b"".join(one + b"\n\f\n" for one in log.anchors))

    async def script(database: Any, sql: Sql) -> None:
        await do(database, sql)
        signed = sql("SELECT size, note FROM workhorse.audit_checkpoints ORDER BY size")
        await emit(database, 1, first=5_000)
        with pytest.raises(AuditFault, match=words):
            await sealer(database, anchors=[anchor]).drain()
        assert sql("SELECT size, note FROM workhorse.audit_checkpoints ORDER BY size") == signed
        assert anchor.all() == log.anchors

    on_sealed(log.url, script)
