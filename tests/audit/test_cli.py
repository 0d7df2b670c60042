"""`workhorse audit`, as an auditor types it: without a database, a network or settings."""

import argparse
import json
import stat
from pathlib import Path

import pytest

from tests.audit.kit import LOG, WITNESSES, event, log_of
from tests.audit.test_export import spread
from workhorse.audit.keys import Signer
from workhorse.cli import audit
from workhorse.errors import SettingsError

KEY = ["--log-key", str(LOG.verifier)]
WITNESS = [part for one in WITNESSES for part in ("--witness", str(one.verifier))]


def typed(*words: str) -> int:
    parser = argparse.ArgumentParser()
    audit.configure(parser)
    return audit.run(parser.parse_args(words))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    spread(log_of(300, (100,), witnesses=WITNESSES), tmp_path)
    return tmp_path


def test_a_good_export_is_ok(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("verify", str(folder), *KEY, *WITNESS, "--seen-since", "2026-03-01T12:00:00Z") == 0
    said = capsys.readouterr().out
    assert "events      300 agree with their entries" in said
    assert said.endswith("\nOK\n")


def test_a_tampered_one_is_not_and_says_where(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = folder / "events.ndjson"
    events.write_bytes(events.read_bytes().replace(b"transfer.posted", b"transfer.voided", 1))
    assert typed("verify", str(folder), *KEY) == 1
    said = capsys.readouterr().out
    assert f'- changed 0 {event(0).id}: type is "transfer.voided", and was "transfer.posted"' in said
    assert said.endswith("NOT OK\n")
    assert typed("verify", str(folder), *KEY, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["findings"][0]["differs"] == ["type"]


def test_an_anchor_finds_a_log_that_was_cut_off(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    older = tmp_path_factory.mktemp("older")
    spread(log_of(100), older)
    assert typed("verify", str(older), *KEY) == 0
    assert typed("verify", str(older), *KEY, "--anchor", str(folder / "checkpoint")) == 1


@pytest.mark.parametrize("named", ["7", str(event(7).id), str(event(7).id).upper()])
def test_an_event_is_proved_and_the_proof_checked(
    folder: Path, named: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert typed("prove", str(folder), named, "--show-data") == 0
    proof = folder / "seven.tlog-proof"
    proof.write_bytes(capfdbinary.readouterr().out)
    assert typed("check", str(proof), *KEY, *WITNESS) == 0
    said = capfdbinary.readouterr().out.decode()
    assert "index       7 of 300" in said
    assert 'data        {"amount":"7.50","cents":750,"to":"Zo\u00eb"}' in said
    proof.write_bytes(proof.read_bytes().replace(b"index 7", b"index 8"))
    assert typed("check", str(proof), *KEY) == 1
    assert b"leads to" in capfdbinary.readouterr().err


def test_an_event_that_the_log_has_not_is_not_proved(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("prove", str(folder), "300") == 1
    assert typed("prove", str(folder), str(event(300).id)) == 1
    assert "the log of 300 entries has no event" in capsys.readouterr().err


def test_a_key_goes_into_a_new_file_that_others_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "key"
    assert typed("key", "bank.example/audit", str(file)) == 0
    signer = Signer.parse(file.read_text().strip())
    assert capsys.readouterr().out.strip() == str(signer.verifier)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(SettingsError, match="goes into a new file"):
        typed("key", "bank.example/audit", str(file))
    assert typed("key", "w.example", str(tmp_path / "w"), "--witness") == 0
    assert Signer.parse((tmp_path / "w").read_text().strip()).kind == 4


@pytest.mark.parametrize(
    "words",
    [["--log-key", "x"], [*KEY, "--witness", str(LOG.verifier)], [*KEY, "--quorum", "1"], [*KEY, "--seen-since", "now"],
     [*KEY, *WITNESS, "--seen-since", "2026-03-01T00:00:00"], [*KEY, "--anchor", "/nowhere"]],
    ids=["key", "kind", "quorum", "time", "zone", "anchor"],
)  # fmt: skip
def test_a_wrong_argument_is_said_as_such(folder: Path, words: list[str]) -> None:
    with pytest.raises(SettingsError):
        typed("verify", str(folder), *words)


def test_what_is_no_export_and_no_event_is_said_as_such(folder: Path) -> None:
    with pytest.raises(SettingsError, match="is no folder"):
        typed("verify", str(folder / "nowhere"), *KEY)
    with pytest.raises(SettingsError, match="neither an event's id nor an index"):
        typed("prove", str(folder), "seven")
