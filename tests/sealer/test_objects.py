"""Anchors and published logs as objects: in a folder, and in a bucket of a real server that speaks S3."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.audit.kit import LOG, ORIGIN, TRUST, log_of, signed
from tests.audit.test_cli import KEY, typed
from tests.audit.test_export import spread
from tests.audit.test_witness import ROOTS
from tests.aws import aws_server, point_at
from tests.sealer.kit import Sql, emit, on_log, sealer, verify_export
from tests.sealer.test_hostile_administrator import forked
from workhorse.audit import verify
from workhorse.audit.export import FolderExport
from workhorse.audit.faults import Malformed
from workhorse.errors import SettingsError
from workhorse.sealer import AnchorUnreachable, FolderStore, ObjectAnchor, ObjectStore, SealRefused
from workhorse.sealer.hosting import sealing
from workhorse.sealer.objects import StoreUnreachable, open_s3
from workhorse.sealer.publishing import PUBLISHED, Publisher
from workhorse.settings import load_settings

NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with aws_server() as url:
        yield url


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a bucket that locks its objects."""
    point_at(s3, monkeypatch)
    name = f"anchors-{next(NUMBERS)}"
    open_s3(f"s3://{name}", days=1).client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return f"s3://{name}/audit"


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    return open_s3(request.getfixturevalue("bucket"), days=1)


def test_a_key_is_written_once_and_read_in_order(store: ObjectStore) -> None:
    assert list(store.originals("a")) == []
    assert store.put_new("a/2", b"two")
    assert store.put_new("a/10", b"ten")
    assert store.put_new("ab", b"else")
    assert not store.put_new("a/2", b"other")
    store.put("b/1", b"old")
    store.put("b/1", b"new")
    assert list(store.originals("a")) == [("a/10", b"ten"), ("a/2", b"two")]


def test_a_checkpoint_is_kept_behind_the_one_that_was_read_and_behind_no_other(store: ObjectStore) -> None:
    async def main() -> None:
        one, other = ObjectAnchor(store), ObjectAnchor(store)
        assert await one.last() is None
        notes = [signed(size, ROOTS[size]) for size in (1, 2, 3)]
        assert await one.keep(notes[0], after=None)
        assert not await other.keep(notes[1], after=None)
        # Both have read the same last one: one of them is first.
        assert await other.keep(notes[2], after=notes[0])
        assert not await one.keep(notes[1], after=notes[0])
        assert await one.last() == notes[2]
        assert one.all() == [notes[0].encode(), notes[2].encode()]

    asyncio.run(main())


def test_of_many_who_keep_at_the_same_moment_one_does(tmp_path: Path) -> None:
    async def main() -> None:
        anchors = [ObjectAnchor(FolderStore(tmp_path / "store")) for _ in range(4)]
        last = None
        for size in range(1, 20):
            note = signed(size, ROOTS[size])
            kept = await asyncio.gather(*(anchor.keep(note, after=last) for anchor in anchors))
            assert sorted(kept) == [False, False, False, True]
            last = note
        assert len(anchors[0].all()) == 19

    asyncio.run(main())


def test_a_database_that_is_rolled_back_or_forked_is_found_by_its_bucket(bucket: str, database_url: str) -> None:
    store = open_s3(bucket, days=1)
    anchor = ObjectAnchor(store, every_seconds=0)

    async def script(database: Any, sql: Sql) -> None:
        one = sealer(database, anchors=[anchor])
        for first in (0, 200, 400):
            await emit(database, 200, first=first)
            await one.drain()
        assert [raw.split(b"\n")[1] for raw in anchor.all()] == [b"201", b"401", b"601"]
        await forked(database, sql)
        await emit(database, 1, first=9_999)
        with pytest.raises(SealRefused, match="does not begin with the checkpoint of the anchor s3://"):
            await sealer(database, anchors=[anchor]).drain()
        assert len(anchor.all()) == 3

    on_log(database_url, script)


def test_what_is_kept_in_a_bucket_is_found_under_what_was_laid_over_it(bucket: str, tmp_path: Path) -> None:
    store = open_s3(bucket, days=1)
    anchor = ObjectAnchor(store)
    notes = [signed(size, ROOTS[size]) for size in (10, 20)]
    forged = signed(20, ROOTS[9])

    async def main() -> None:
        await anchor.keep(notes[0], after=None)
        await anchor.keep(notes[1], after=notes[0])
        # Whoever may write to the bucket deletes the last one, and lays another over it.
        key = f"{store.prefix}/anchors/9999999997"
        store.client.delete_object(Bucket=store.bucket, Key=key)
        assert (await anchor.last()) == notes[1]
        store.client.put_object(Bucket=store.bucket, Key=key, Body=forged.encode())
        assert (await anchor.last()) == notes[1]
        store.client.put_object(Bucket=store.bucket, Key=f"{store.prefix}/anchors/0", Body=b"x")
        with pytest.raises(Malformed, match="no anchor's"):
            await anchor.last()

    asyncio.run(main())
    client = store.client
    version = client.list_object_versions(Bucket=store.bucket, Prefix=f"{store.prefix}/anchors/9")["Versions"][-1]
    head = client.head_object(Bucket=store.bucket, Key=version["Key"], VersionId=version["VersionId"])
    assert head["ObjectLockMode"] == "COMPLIANCE"
    with pytest.raises(Exception, match="AccessDenied"):
        client.delete_object(
            Bucket=store.bucket, Key=version["Key"], VersionId=version["VersionId"], BypassGovernanceRetention=True
        )


def test_a_published_log_is_verified_from_a_copy_of_its_objects_alone(
    store: ObjectStore, database_url: str, tmp_path: Path
) -> None:
    async def script(database: Any, sql: Sql) -> None:
        one, publisher = sealer(database), Publisher(database, store, every_seconds=0)
        assert await publisher.turn() is None
        for first, count in ((0, 300), (300, 5), (305, 300)):
            await emit(database, count, first=first)
            await one.drain()
            assert await publisher.turn() == first + count + 1
        assert await publisher.turn() is None
        # A process that lost its place writes again what is there, which changes nothing.
        sql("UPDATE workhorse.audit_published SET size = 0, next_at = now()")
        assert await publisher.turn() == 606

    on_log(database_url, script)
    copy = tmp_path / "copy"
    for key, raw in store.originals(PUBLISHED):
        path = copy / key.removeprefix(f"{PUBLISHED}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    # The checkpoint is the one key that has versions; the oldest is what was published first.
    (copy / "checkpoint").write_bytes((copy / "checkpoints" / "606").read_bytes())
    report = verify(FolderExport(copy), TRUST)
    assert report.ok, report.findings
    assert (report.size, report.entries, report.events, report.checkpoints) == (606, 606, None, 4)


def test_what_a_worker_keeps_in_a_bucket_is_fetched_and_verified_with(
    bucket: str, database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load_settings(
        tmp_path,
        database={"url": database_url},
        audit={
            "origin": ORIGIN,
            "key": LOG.reveal(),
            "anchor_s3": bucket,
            "anchor_s3_every_seconds": 0,
            "anchor_s3_days": 1,
            "sign_every_seconds": 0,
        },
    )
    store = open_s3(bucket, days=1)

    async def script(database: Any, sql: Sql) -> None:
        async with sealing(settings, database):
            await emit(database, 30)
            async with asyncio.timeout(30):
                while not any(key.endswith("/31") for key, _ in store.originals(f"{PUBLISHED}/checkpoints")):
                    await asyncio.sleep(0.1)
        report = await verify_export(database, tmp_path / "export")
        assert report.ok

    on_log(database_url, script)
    assert typed("anchors", str(tmp_path / "kept"), "--store", bucket) == 0
    assert typed("verify", str(tmp_path / "export"), *KEY, "--anchors", str(tmp_path / "kept")) == 0
    assert "verified" in capsys.readouterr().out
    spread(log_of(10), tmp_path / "other")  # another history, signed by the same key
    assert typed("verify", str(tmp_path / "other"), *KEY, "--anchors", str(tmp_path / "kept")) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match="no checkpoint is kept"):
        typed("verify", str(tmp_path / "export"), *KEY, "--anchors", str(tmp_path / "empty"))


def test_a_bucket_without_a_lock_is_refused_and_one_that_is_away_stops_the_signature_alone(
    bucket: str, database_url: str, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = open_s3(f"{bucket.rpartition('/')[0]}-plain", days=1)
    plain.client.create_bucket(Bucket=plain.bucket)
    with pytest.raises(SettingsError, match="no Object Lock"):
        plain.check()
    with pytest.raises(SettingsError, match="not the address of a bucket"):
        open_s3("https://bucket", days=1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    away = open_s3(bucket, days=1)
    with pytest.raises(StoreUnreachable, match="cannot be asked"):
        away.check()

    async def script(database: Any, sql: Sql) -> None:
        await emit(database, 5)
        with pytest.raises(AnchorUnreachable, match="cannot be read"):
            await sealer(database, anchors=[ObjectAnchor(away)]).drain()
        assert sql("SELECT size FROM workhorse.audit_log") == [(6,)]
        assert sql("SELECT count(*) FROM workhorse.audit_checkpoints") == [(0,)]

    on_log(database_url, script)
