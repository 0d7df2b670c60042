"""A witness over its port: it signs what grew, refuses a fork and a roll-back, and forgets nothing over a restart."""

import asyncio
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.audit.kit import LOG, ORIGIN, TRUST, signed, signer
from tests.audit.served import WITNESS, command, served, witness_folder
from tests.audit.test_witness import ROOTS, request
from workhorse.audit.checkpoints import Trust, open_checkpoint
from workhorse.audit.faults import Malformed
from workhorse.audit.heads import HeadFolder, Remembered
from workhorse.audit.serving import MAX_BODY, WitnessApp
from workhorse.audit.tree import leaf_hash
from workhorse.audit.witness import AddCheckpoint, take_cosignatures
from workhorse.errors import SettingsError


def test_a_witness_signs_over_its_port_and_refuses_a_fork_and_a_roll_back_after_a_restart_too(tmp_path: Path) -> None:
    folder = witness_folder(tmp_path / "w1")

    def ask(url: str, one: AddCheckpoint) -> httpx.Response:
        return httpx.post(f"{url}/add-checkpoint", content=one.encode(), timeout=10)

    forged = signed(20, leaf_hash(b"forged"))
    with served(folder) as url:
        note = signed(10, ROOTS[10])
        reply = ask(url, request(0, 10))
        assert reply.status_code == 200
        cosigned = take_cosignatures(note, reply.content, [WITNESS.verifier])
        trust = Trust(origin=ORIGIN, logs=(LOG.verifier,), witnesses=(WITNESS.verifier,), quorum=1)
        assert open_checkpoint(cosigned.encode(), trust).checkpoint.size == 10
        assert ask(url, request(10, 20, note=forged)).status_code == 422
        assert f"witness {WITNESS.verifier}\nlog {ORIGIN}: 10 entries" in httpx.get(url).text
        other = ask(url, request(0, 5, note=signed(5, ROOTS[5], by=signer("other"))))
        assert other.status_code == 403
        with pytest.raises(subprocess.CalledProcessError):  # two processes of one folder
            subprocess.run(command("witness", str(folder), "--port", "0"), check=True, capture_output=True, timeout=60)
    with served(folder) as url:
        behind = ask(url, request(0, 5))
        assert (behind.status_code, behind.text) == (409, "10\n")
        assert behind.headers["content-type"] == "text/x.tlog.size"
        assert ask(url, request(10, 20, note=forged)).status_code == 422
        assert ask(url, request(10, 40)).status_code == 200
        assert ask(url, request(40, 40)).status_code == 200  # once more, with a new time
    # The other history, signed by the log, is kept as the proof against it.
    (evidence,) = (folder / "evidence").iterdir()
    assert open_checkpoint(evidence.read_bytes(), TRUST).checkpoint.root == leaf_hash(b"forged")


def asked(witness: WitnessApp, *parts: bytes, path: str = "/add-checkpoint", method: str = "POST") -> tuple[int, bytes]:
    """One request to the app itself."""

    async def main() -> tuple[int, bytes]:
        incoming = [
            {"type": "http.request", "body": part, "more_body": at + 1 < len(parts)} for at, part in enumerate(parts)
        ]
        sent: list[dict[str, object]] = []

        async def receive() -> dict[str, object]:
            return incoming.pop(0)

        async def send(message: object) -> None:
            sent.append(message)  # type: ignore[arg-type]

        await witness({"type": "http", "method": method, "path": path, "headers": []}, receive, send)
        return sent[0]["status"], sent[1]["body"]  # type: ignore[return-value]

    return asyncio.run(main())


@pytest.fixture
def witness(tmp_path: Path) -> WitnessApp:
    (tmp_path / "key").write_text(WITNESS.reveal())
    folder = HeadFolder(tmp_path)
    folder.admit([LOG.verifier])
    return WitnessApp(folder)


def test_a_request_that_is_none_is_refused_with_a_reason(witness: WitnessApp) -> None:
    witness.open()
    try:
        assert asked(witness, b"")[0] == 400
        assert asked(witness, b"old 0\n\nfree text\n\n")[0] == 400
        assert asked(witness, *[b"x" * 1024] * (MAX_BODY // 1024 + 1))[0] == 413
        assert asked(witness, method="GET")[0] == 405
        assert asked(witness, path="/else")[0] == 404
        stranger = signed(5, ROOTS[5]).text.replace(ORIGIN, "other.example")
        assert asked(witness, request(0, 5, note=type(signed(5, ROOTS[5]))(stranger).sign(LOG)).encode())[0] == 404
    finally:
        witness.close()


def test_a_head_that_cannot_be_kept_is_not_signed(witness: WitnessApp, tmp_path: Path) -> None:
    witness.open()
    try:
        (tmp_path / "logs").rename(tmp_path / "away")
        status, body = asked(witness, request(0, 5).encode())
        assert (status, body) == (503, b"the head could not be kept: No such file or directory\n")
        (tmp_path / "away").rename(tmp_path / "logs")
        assert asked(witness, request(0, 5).encode())[0] == 200
    finally:
        witness.close()


def test_a_witness_whose_memory_is_gone_torn_or_edited_does_not_start(witness: WitnessApp, tmp_path: Path) -> None:
    witness.open()
    assert asked(witness, request(0, 5).encode())[0] == 200
    witness.close()
    (file,) = (tmp_path / "logs").iterdir()
    raw = file.read_bytes()
    for damaged in (raw[:-30], raw.replace(b"\n5\n", b"\n4\n"), b"", raw.replace(b"key ", b"kay ", 1)):
        file.write_bytes(damaged)
        with pytest.raises(Malformed, match="cannot be read"):
            witness.open()
    file.write_bytes(raw)
    (tmp_path / "logs").rename(tmp_path / "unmounted")
    with pytest.raises(SettingsError, match="mount the right disk"):
        witness.open()


def test_a_log_that_is_admitted_again_with_a_new_key_keeps_its_head(witness: WitnessApp, tmp_path: Path) -> None:
    witness.open()
    assert asked(witness, request(0, 5).encode())[0] == 200
    witness.close()
    other = type(LOG)(ORIGIN, LOG.kind, bytes(32)).verifier
    one = HeadFolder(tmp_path).admit([other])
    assert one.keys == (LOG.verifier, other)
    assert one.head is not None
    assert one.head.size == 5
    assert Remembered.parse(one.encode()) == one
    with pytest.raises(SettingsError, match="one log"):
        HeadFolder(tmp_path).admit([LOG.verifier, WITNESS.verifier])
