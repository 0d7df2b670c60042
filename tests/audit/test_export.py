"""An export is read from a folder that somebody else filled, and nothing in it leads elsewhere or without end."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.audit.kit import TRUST, Log, log_of, signed
from workhorse.audit.export import MAX_LINE_BYTES, FolderExport, MemoryExport
from workhorse.audit.faults import Malformed
from workhorse.audit.report import Fault
from workhorse.audit.verify import MAX_LOST, verify


def spread(log: Log, folder: Path) -> FolderExport:
    for path, raw in log.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(raw)
    return FolderExport(folder)


def test_a_folder_is_verified_as_what_it_holds(tmp_path: Path) -> None:
    log = log_of(300, (100,))
    report = verify(spread(log, tmp_path), TRUST)
    assert report == log.verify()
    assert report.ok
    (tmp_path / "checkpoints" / "notes.txt").write_text("not a checkpoint")
    assert verify(FolderExport(tmp_path), TRUST).ok


def test_an_empty_folder_is_no_good_export(tmp_path: Path) -> None:
    report = verify(FolderExport(tmp_path), TRUST)
    assert not report.ok
    assert [one.message for one in report.findings] == ["checkpoint: it is missing"]


@pytest.mark.parametrize("path", ["checkpoint", "checkpoints/10", "tile/0/001.p/10", "tile/0/000", "tile/entries/000",
                                  "events.ndjson"])  # fmt: skip
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_plain_file_is_not_read(tmp_path: Path, path: str, kind: str) -> None:
    export = spread(log_of(266, (10,)), tmp_path)
    (tmp_path / path).unlink()
    if kind == "pipe":
        os.mkfifo(tmp_path / path)
    elif kind == "device":
        (tmp_path / path).symlink_to("/dev/zero")
    else:
        (tmp_path / path).mkdir()
    report = verify(export, TRUST)
    assert not report.ok
    assert any("is no plain file" in one.message for one in report.findings)


def test_a_file_is_read_no_further_than_its_kind_goes(tmp_path: Path) -> None:
    export = spread(log_of(10), tmp_path)
    for path in ("checkpoint", "tile/0/000.p/10"):
        with (tmp_path / path).open("r+b") as file:
            file.truncate(2**40)  # with a hole: it takes no room
    report = verify(export, TRUST)
    assert {one.fault for one in report.findings} == {Fault.CHECKPOINT, Fault.TILE_CHANGED}


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    export = spread(log_of(10), tmp_path)
    with (tmp_path / "events.ndjson").open("r+b") as file:
        file.truncate(MAX_LINE_BYTES + 5_000)
    report = verify(export, TRUST)
    assert report.events == 10
    assert {one.fault for one in report.findings} == {Fault.UNREADABLE}


def test_more_checkpoints_than_anyone_keeps_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workhorse.audit.export.MAX_HISTORY", 1)
    export = spread(log_of(10, (5,)), tmp_path)
    with pytest.raises(Malformed, match="at most 1 are read"):
        export.history()
    assert {one.fault for one in verify(export, TRUST).findings} == {Fault.CHECKPOINT}


def test_a_log_that_claims_to_be_endless_is_given_up() -> None:
    log = log_of(300)
    log.files["checkpoint"] = signed(2**62, b"r" * 32).encode()
    report = log.verify()
    faults = [one.fault for one in report.findings]
    assert set(faults) == {Fault.TILE_MISSING, Fault.ENTRIES_MISSING, Fault.TOO_MANY}
    assert faults.count(Fault.ENTRIES_MISSING) == MAX_LOST + 1
    assert report.events == 256


def test_a_disk_that_fails_amid_the_events_is_a_finding_and_no_crash() -> None:
    log = log_of(10)
    lines = log.files["events.ndjson"].splitlines()

    class Failing(MemoryExport):
        def lines(self) -> Iterator[bytes]:
            yield from lines[:4]
            raise Malformed("events.ndjson cannot be read: Input/output error")

    report = verify(Failing(log.files), TRUST)
    assert report.events == 4
    assert [one.fault for one in report.findings].count(Fault.UNREADABLE) == 1
