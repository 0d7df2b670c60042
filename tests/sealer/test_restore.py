"""A log that is restored into another cluster goes on when a person says so, and tells of it."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.audit.kit import LOG
from tests.sealer.kit import KEYS, ORIGIN, Sql, emit, on_log, on_sealed, sealer, verify_export
from workhorse.embedded import attach
from workhorse.errors import SettingsError
from workhorse.feeds import Feed, FeedMoved, FeedReader, Recorded
from workhorse.sealer import FileAnchor, SealRefused, resume
from workhorse.testing import migrated_database

TABLES = ("events", "feeds", "audit_log", "audit_entries", "audit_tiles", "audit_checkpoints")


@pytest.fixture(scope="module")
def other_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with attach(tmp_path_factory.mktemp("other"), linger_seconds=0) as servers:
        yield servers.database_url


def restored(source: str, cluster: str, *, later_numbers: int = 0) -> str:
    """The rows of a database in one of another cluster, as a dump brings them there."""
    target = migrated_database(cluster)
    with psycopg.connect(source) as old, psycopg.connect(target) as new:
        for table in TABLES:
            name = f"workhorse.{table}".encode()
            new.execute(b"DELETE FROM " + name)
            with (
                old.cursor().copy(b"COPY (SELECT * FROM " + name + b") TO STDOUT") as dump,
                new.cursor().copy(b"COPY " + name + b" FROM STDIN") as load,
            ):
                for data in dump:
                    load.write(data)
        if later_numbers:
            # The old cluster had come further: its numbers are still to come here.
            new.execute(
                "UPDATE workhorse.events"
                " SET txid = (pg_snapshot_xmax(pg_current_snapshot())::text::bigint + %s)::text::xid8",
                (later_numbers,),
            )
    return target


@pytest.mark.parametrize("later_numbers", [0, 30], ids=["numbers of before", "numbers that are still to come"])
def test_a_restored_log_goes_on_once_it_is_confirmed_and_says_so(
    database_url: str, other_cluster: str, tmp_path: Path, later_numbers: int
) -> None:
    async def before(database: Any, _sql: Sql) -> None:
        await emit(database, 300)
        await sealer(database).drain()
        await emit(database, 7, first=1_000)  # in the dump, and not sealed

    async def after(database: Any, sql: Sql) -> None:
        with pytest.raises(FeedMoved):
            await sealer(database).drain()
        sql("DELETE FROM workhorse.events WHERE subject = 'account:12'")
        looked = await resume(database, KEYS)
        assert (looked.size, looked.waiting, looked.gone, looked.done) == (301, 7, 1, False)
        with pytest.raises(FeedMoved):
            await sealer(database).drain()
        with pytest.raises(SettingsError, match="was confirmed"):
            await resume(database, KEYS, confirmed="other.example/audit")
        assert (await resume(database, KEYS, confirmed=looked.origin)).done
        one = sealer(database, batch=50)
        await one.drain()
        for number in range(60):  # each a transaction, until this cluster has the numbers that were restored
            await emit(database, 1, first=2_000 + number)
        await one.drain()
        assert sql("SELECT count(*), count(DISTINCT event_id) FROM workhorse.audit_entries") == [(369, 369)]
        ((data,),) = sql("SELECT data FROM workhorse.events WHERE type = 'audit.resumed'")
        assert (data["size"], data["waiting"], data["gone"]) == (301, 7, 1)
        # Another feed that begins anew finds each event once, whatever number it came with.
        read: list[Recorded] = []

        async def note(_work: Any, events: Sequence[Recorded]) -> None:
            read.extend(events)

        await FeedReader(database, Feed("notes", note)).drain()
        assert (len(read), len({event.id for event in read})) == (368, 368)
        report = await verify_export(database, tmp_path / "export")
        assert [str(finding)[:7] for finding in report.findings] == ["removed"], report.findings
        with pytest.raises(SettingsError, match="nothing is to resume"):
            await resume(database, KEYS, confirmed=looked.origin)

    on_log(database_url, before)
    on_sealed(restored(database_url, other_cluster, later_numbers=later_numbers), after)


def test_a_restored_log_that_is_shorter_than_its_anchor_is_not_gone_on_with(
    database_url: str, other_cluster: str, tmp_path: Path
) -> None:
    anchor = FileAnchor(tmp_path / "anchor")
    target: list[str] = []

    async def before(database: Any, _sql: Sql) -> None:
        await emit(database, 3)
        one = sealer(database, anchors=[anchor])
        await one.drain()
        target.append(restored(database_url, other_cluster))
        await emit(database, 3)
        await one.drain()

    async def after(database: Any, sql: Sql) -> None:
        with pytest.raises(SealRefused, match="rolled back"):
            await resume(database, KEYS, anchors=[anchor], confirmed="bank.example/audit")
        assert sql("SELECT count(*) FROM workhorse.events WHERE type = 'audit.resumed'") == [(0,)]

    on_log(database_url, before)
    on_sealed(target[0], after)


def test_the_command_says_what_it_found_and_does_it_when_told_the_logs_name(database_url: str, tmp_path: Path) -> None:
    def command(*words: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "WORKHORSE_DATABASE__URL": database_url,
            "WORKHORSE_AUDIT__ORIGIN": ORIGIN,
            "WORKHORSE_AUDIT__KEY": LOG.reveal(),
        }
        return subprocess.run(
            [sys.executable, "-m", "workhorse.cli", "audit", "resume", *words],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    async def script(database: Any, sql: Sql) -> None:
        await emit(database, 3)
        await sealer(database).drain()
        sql("UPDATE workhorse.feeds SET cluster = cluster + 1")

    on_log(database_url, script)
    looked = command()
    assert (looked.returncode, "Nothing was changed" in looked.stdout) == (1, True), looked
    done = command("--confirm", ORIGIN)
    assert (done.returncode, "The log is gone on with" in done.stdout) == (0, True), done
    again = command("--confirm", ORIGIN)
    assert again.returncode != 0
    assert "nothing is to resume" in again.stderr
