"""The sealer seals each event once, signs what is committed, and carries on no log but the one that it signed."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.audit.kit import LOG, ORIGIN, TRUST
from tests.sealer.kit import KEYS, Sql, emit, on_log, sealer, verify_export
from tests.sealer.sealing_process import PLACES
from workhorse.audit import Trust, check_proof, new_signer
from workhorse.audit.keys import COSIGNATURE
from workhorse.errors import SettingsError
from workhorse.sealer import (
    AnchorUnreachable,
    FileAnchor,
    KeyFile,
    KeyText,
    LogReader,
    Sealer,
    SealerOptions,
    SealRefused,
)
from workhorse.units import Unit

NEW = new_signer(ORIGIN, random=bytes)
ROOT = Path(__file__).parents[2]


def test_what_is_sealed_is_verified_offline_with_the_public_key_alone(database_url: str, tmp_path: Path) -> None:
    async def script(database: Any, _sql: Sql) -> None:
        one = sealer(database, batch=100)
        await emit(database, 700)
        # The first event of all tells of the key, and is sealed like any other.
        assert await one.drain() == 701
        assert await one.drain() == 0
        report = await verify_export(database, tmp_path / "export")
        assert report.ok, report.findings
        assert (report.size, report.events) == (701, 701)

    on_log(database_url, script)


def test_a_proof_of_one_event_is_checked_by_itself(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        await emit(database, 300)
        await sealer(database).drain()
        reader = LogReader(database)
        ((event_id,),) = sql("SELECT id FROM workhorse.events WHERE subject = 'account:271'")
        proof = await reader.prove(event_id, show_data=True)
        assert proof is not None
        proved = check_proof(proof, TRUST)
        assert (proved.entry.subject, proved.data) == ('"account:271"', b'{"amount":"271.50"}')
        await emit(database, 1, first=9_000)
        ((later,),) = sql("SELECT id FROM workhorse.events WHERE subject = 'account:9000'")
        assert await reader.prove(later) is None
        status = await reader.status()
        assert (status.size, status.signed, status.waiting) == (301, 301, 1)

    on_log(database_url, script)


@pytest.mark.slow
def test_a_sealer_that_is_killed_anywhere_leaves_nothing_out_and_nothing_double(
    database_url: str, tmp_path: Path
) -> None:
    anchor = FileAnchor(tmp_path / "anchor")

    async def script(database: Any, sql: Sql) -> None:
        for number, place in enumerate(PLACES):
            await emit(database, 50, first=number * 50)
            command = [sys.executable, "-m", "tests.sealer.sealing_process", database_url, str(anchor.path), place]
            ended = await asyncio.to_thread(
                subprocess.run, command, cwd=ROOT, env=os.environ, check=False, capture_output=True, timeout=60
            )
            assert ended.returncode == -9, (place, ended.stderr)
            # Whatever was signed by then is the beginning of what is sealed.
            ((signed,),) = sql("SELECT coalesce(max(size), 0) FROM workhorse.audit_checkpoints")
            ((sealed,),) = sql("SELECT size FROM workhorse.audit_log")
            assert signed <= sealed
        await sealer(database, anchors=[anchor]).drain()
        assert sql("SELECT event_id FROM workhorse.audit_entries ORDER BY 1") == sql(
            "SELECT id FROM workhorse.events ORDER BY 1"
        )
        report = await verify_export(database, tmp_path / "export", anchors=anchor.all())
        assert report.ok, report.findings
        assert report.size == 50 * len(PLACES) + 1

    on_log(database_url, script)


def test_of_many_sealers_at_once_each_event_is_sealed_by_one(database_url: str, tmp_path: Path) -> None:
    async def script(database: Any, sql: Sql) -> None:
        await sealer(database).drain()
        running = [asyncio.create_task(sealer(database, batch=7).run()) for _ in range(3)]
        for number in range(20):
            await emit(database, 10, first=number * 10)
        try:
            async with asyncio.timeout(30):
                while sql("SELECT max(size) FROM workhorse.audit_checkpoints") != [(201,)]:
                    await asyncio.sleep(0.05)
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)
        report = await verify_export(database, tmp_path / "export")
        assert (report.ok, report.events) == (True, 201)

    on_log(database_url, script)


def test_a_new_key_is_told_of_in_the_log_before_it_signs(database_url: str, tmp_path: Path) -> None:
    async def script(database: Any, sql: Sql) -> None:
        await emit(database, 5)
        old = sealer(database)
        await old.drain()
        with pytest.raises(SealRefused, match="not by a known key"):
            await sealer(database, keys=KeyText(NEW)).drain()
        await sealer(database, keys=KeyText(NEW, (LOG.verifier,))).drain()
        ((data, index),) = sql(
            "SELECT data, index FROM workhorse.events JOIN workhorse.audit_entries ON event_id = id"
            " WHERE type = 'audit.key_changed' AND data->>'old' IS NOT NULL"
        )
        assert (data, index) == ({"old": str(LOG.verifier), "new": str(NEW.verifier)}, 6)
        # A process that still has the old key does not sign any more.
        await emit(database, 5)
        with pytest.raises(SealRefused, match="not by a known key"):
            await old.drain()
        both = Trust(origin=ORIGIN, logs=(NEW.verifier, LOG.verifier))
        report = await verify_export(database, tmp_path / "export", trust=both)
        assert report.ok, report.findings

    on_log(database_url, script)


def test_an_anchor_that_is_out_of_reach_stops_the_signature_and_not_the_sealing(
    database_url: str, tmp_path: Path
) -> None:
    anchor = FileAnchor(tmp_path / "folder")

    async def script(database: Any, sql: Sql) -> None:
        anchor.path.mkdir()
        await emit(database, 5)
        one = sealer(database, anchors=[anchor])
        with pytest.raises(AnchorUnreachable, match="Is a directory"):
            await one.drain()
        assert sql("SELECT size FROM workhorse.audit_log") == [(6,)]
        assert sql("SELECT count(*) FROM workhorse.audit_checkpoints") == [(0,)]
        anchor.path.rmdir()
        note = await one.sign()
        assert note is not None
        assert anchor.all() == [note.encode()]

    on_log(database_url, script)


def test_a_sealer_that_stands_still_says_why_and_goes_on_when_it_is_mended(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        await sealer(database).drain()
        ((root,),) = sql(
            "UPDATE workhorse.audit_log l SET root = sha256('x') FROM workhorse.audit_log o RETURNING o.root"
        )
        one = sealer(database)
        running = asyncio.create_task(one.run())
        try:
            async with asyncio.timeout(20):
                while one.trouble is None:
                    await asyncio.sleep(0.02)
                assert "does not begin with" in one.trouble
                sql("UPDATE workhorse.audit_log SET root = %s", root)
                while one.trouble is not None:
                    await asyncio.sleep(0.02)
        finally:
            running.cancel()
            await asyncio.wait([running])

    on_log(database_url, script)


def test_the_exact_digits_of_an_amount_are_sealed(database_url: str, tmp_path: Path) -> None:
    async def script(database: Any, sql: Sql) -> None:
        async with Unit(database) as work:
            await work.emit("transfer.posted", subject="account:1", data={"cents": 9007199254740993})
        await sealer(database).drain()
        sql("UPDATE workhorse.events SET data = '{\"cents\": 9007199254740992}' WHERE subject = 'account:1'")
        report = await verify_export(database, tmp_path / "export")
        assert [finding.differs for finding in report.findings] == [("data",)]

    on_log(database_url, script)


def test_an_anchor_that_was_torn_by_a_crash_is_read_up_to_its_last_whole_checkpoint(
    database_url: str, tmp_path: Path
) -> None:
    anchor = FileAnchor(tmp_path / "anchor")

    async def script(database: Any, _sql: Sql) -> None:
        one = sealer(database, anchors=[anchor])
        await one.drain()
        (whole,) = anchor.all()
        with anchor.path.open("ab") as file:
            file.write(whole[:40])
        await emit(database, 1)
        await one.drain()
        last = await anchor.last()
        assert last is not None
        assert last.text.splitlines()[1] == "2"
        assert anchor.all() == [whole, last.encode()]

    on_log(database_url, script)


def test_a_key_in_a_file_is_for_development(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(LOG.reveal())
    path.chmod(0o600)
    assert asyncio.run(KeyFile(path=path, production=False).keys()).signer == LOG
    assert asyncio.run(KeyFile(path=path, production=True, allow_in_production=True).keys()).signer == LOG
    with pytest.raises(SettingsError, match="production refuses"):
        asyncio.run(KeyFile(path=path, production=True).keys())
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="may be read by others"):
        asyncio.run(KeyFile(path=path, production=False).keys())
    with pytest.raises(SettingsError, match="kind 1"):
        asyncio.run(KeyText(new_signer(ORIGIN, kind=COSIGNATURE, random=bytes)).keys())


def test_a_log_has_one_name(database_url: str) -> None:
    async def script(database: Any, _sql: Sql) -> None:
        await sealer(database).drain()
        with pytest.raises(SettingsError, match="one name"):
            await Sealer(database, SealerOptions(origin="other.example/log"), KEYS).drain()
        other = KeyText(new_signer("other.example/log", random=bytes))
        with pytest.raises(SettingsError, match="has the log"):
            await Sealer(database, SealerOptions(origin="other.example/log"), other).drain()

    on_log(database_url, script)
