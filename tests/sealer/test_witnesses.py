"""Witnesses over a port: their signatures stand under checkpoints, and no answer of theirs holds up the sealing."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.audit.kit import LOG, ORIGIN, TRUST, signed, signer
from tests.audit.served import WITNESS, served, witness_folder
from tests.audit.test_witness import ROOTS, request
from tests.sealer.kit import Sql, emit, on_log, sealer, verify_export
from tests.sealer.test_hostile_administrator import forked
from workhorse.audit import Trust, verify
from workhorse.audit.export import FolderExport
from workhorse.audit.faults import Malformed
from workhorse.audit.keys import COSIGNATURE
from workhorse.audit.witness import cosign
from workhorse.errors import SettingsError
from workhorse.sealer import Cosigner, LogReader, Witness, WitnessClient
from workhorse.sealer.hosting import sealing, witnesses_of
from workhorse.sealer.witnesses import MAX_REPLY, WitnessAway, WitnessElsewhere, WitnessFault, WitnessWrong
from workhorse.settings import load_settings

WITNESSED = Trust(origin=ORIGIN, logs=TRUST.logs, witnesses=(WITNESS.verifier,), quorum=1)


def cosigner(database: Any, url: str) -> Cosigner:
    client = WitnessClient(Witness(WITNESS.verifier, url), deadline_seconds=5)
    return Cosigner(database, client, witnesses=[WITNESS.verifier], every_seconds=0.0)


def test_a_witness_of_another_team_signs_and_a_database_that_was_set_back_gets_no_signature(
    database_url: str, tmp_path: Path
) -> None:
    folder = witness_folder(tmp_path / "w1")
    with served(folder) as url:

        async def script(database: Any, sql: Sql) -> None:
            one, asking = sealer(database), cosigner(database, url)
            assert await asking.turn() is False  # there is nothing to sign yet
            for first in (0, 200, 400):
                await emit(database, 200, first=first)
                await one.drain()
                assert await asking.turn()
            assert await asking.turn() is False  # nothing is new
            assert await cosigner(database, url).turn() is False
            report = await verify_export(database, tmp_path / "export", trust=WITNESSED)
            assert report.ok, report.findings
            assert set(report.witnesses) == {WITNESS.name}
            (status,) = (await LogReader(database).status()).witnesses
            assert (status.size, status.failures, status.trouble) == (601, 0, None)
            assert status.signed_seconds_ago is not None
            assert abs(status.signed_seconds_ago) < 60
            # The witness's place is found again when it is lost here.
            sql("DELETE FROM workhorse.audit_witnesses")
            await emit(database, 1, first=600)
            await one.drain()
            assert await asking.turn()
            # A fork by who has the key: it is signed by the log, and by no witness.
            await forked(database, sql)
            assert await asking.turn() is False
            (status,) = (await LogReader(database).status()).witnesses
            assert status.trouble is not None
            assert "422" in status.trouble
            blind = await verify_export(database, tmp_path / "forked")
            assert blind.ok
            report = verify(FolderExport(tmp_path / "forked"), WITNESSED)
            assert not report.ok
            assert "signed by 0 known witnesses" in report.findings[0].message
            with pytest.raises(Malformed, match="signed by 2 witnesses"):
                await LogReader(database, quorum=2).export(tmp_path / "none")
            # And what it did sign is the last that a reader who asks for it is given.
            assert (await LogReader(database, quorum=1).checkpoint()).text.splitlines()[1] == "401"

        on_log(database_url, script)
    assert len(list((folder / "evidence").iterdir())) == 1


def test_an_empty_log_that_was_put_in_the_place_of_a_witnessed_one_is_told(database_url: str, tmp_path: Path) -> None:
    with served(witness_folder(tmp_path / "w1")) as url:

        async def script(database: Any, sql: Sql) -> None:
            await emit(database, 50)
            await sealer(database).drain()
            assert await cosigner(database, url).turn()
            sql("TRUNCATE workhorse.audit_log, workhorse.audit_entries, workhorse.audit_tiles")
            sql("TRUNCATE workhorse.audit_checkpoints, workhorse.audit_witnesses, workhorse.feeds")
            sql("DELETE FROM workhorse.events WHERE subject > 'account:2'")
            await sealer(database).drain()
            assert await cosigner(database, url).turn() is False
            (status,) = (await LogReader(database).status()).witnesses
            assert status.trouble is not None
            assert "this database was set back or is another one" in status.trouble

        on_log(database_url, script)


def test_a_worker_seals_whether_its_witness_is_there_or_not(database_url: str, tmp_path: Path) -> None:
    folder = witness_folder(tmp_path / "w1")

    async def script(database: Any, sql: Sql) -> None:
        async def until(statement: str, wanted: object) -> None:
            async with asyncio.timeout(30):
                while sql(statement) != [(wanted,)]:
                    await asyncio.sleep(0.05)

        with served(folder) as url:
            settings = load_settings(
                tmp_path,
                database={"url": database_url},
                audit={
                    "origin": ORIGIN,
                    "key": LOG.reveal(),
                    "witnesses": f"{WITNESS.verifier} {url}",
                    "witness_quorum": 1,
                    "witness_every_seconds": 0.1,
                    "sign_every_seconds": 0,
                },
            )
            async with sealing(settings, database):
                await emit(database, 10)
                await until("SELECT max(size) FROM workhorse.audit_checkpoints WHERE cosigned = 1", 11)
        async with sealing(settings, database):
            await emit(database, 10, first=10)
            await until("SELECT max(size) FROM workhorse.audit_checkpoints", 21)
            await until("SELECT failures > 0 FROM workhorse.audit_witnesses", True)  # noqa: FBT003
        report = await verify_export(database, tmp_path / "export")
        assert (report.ok, report.size) == (True, 21)
        reader = LogReader(database, quorum=1)
        status = await reader.status()
        assert (status.signed, status.cosigned) == (21, 11)
        await reader.export(tmp_path / "witnessed")
        report = verify(FolderExport(tmp_path / "witnessed"), WITNESSED)
        # What came after the last signature is shown as not covered yet.
        assert (report.size, report.entries) == (11, 11)

    on_log(database_url, script)


NOTE = signed(10, ROOTS[10])
OTHER = signer("w2.example/witness", COSIGNATURE)


@asynccontextmanager
async def answering(*parts: bytes, again: int = 1, hang: bool = False) -> AsyncGenerator[str]:
    """A server that answers each request with these bytes, the last of them so many times."""

    serving = set[Any]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        try:
            await reader.readuntil(b"\r\n\r\n")
            for part in parts:
                writer.write(part)
            for _ in range(again - 1):
                writer.write(parts[-1])
                await writer.drain()
            await writer.drain()
            if hang:
                await reader.read()  # until the other side goes
        except (OSError, asyncio.IncompleteReadError):
            pass  # it has gone
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()
        if serving:
            await asyncio.wait(serving)  # before Python 3.12 the server does not


def reply(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


NOW = 1_790_000_000
GOOD = cosign(NOTE, WITNESS, seconds=NOW)
BAD_SIGNATURE = f"\u2014 {WITNESS.name} {b64encode(WITNESS.verifier.id + bytes(72)).decode()}\n".encode()
CHUNK = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"

HOSTILE = [
    ("gives another's signature", [reply("200 OK", cosign(NOTE, OTHER, seconds=NOW))], WitnessWrong, "no signature of"),
    (
        "signs another checkpoint",
        [reply("200 OK", cosign(signed(9, ROOTS[9]), WITNESS, seconds=NOW))],
        WitnessWrong,
        "no signature over this",
    ),
    ("signs garbage", [reply("200 OK", BAD_SIGNATURE)], WitnessWrong, "no signature over this"),
    ("answers with a page", [reply("200 OK", b"<html>hello</html>")], WitnessWrong, "no signature over this"),
    ("answers with nothing", [reply("200 OK", b"")], WitnessWrong, "no signature over this"),
    ("answers with a note of its own", [reply("200 OK", NOTE.encode() + GOOD)], WitnessWrong, "no signature over this"),
    (
        "signs for the future",
        [reply("200 OK", cosign(NOTE, WITNESS, seconds=NOW + 86_400))],
        WitnessWrong,
        "86400 seconds from now",
    ),
    ("signs for the past", [reply("200 OK", cosign(NOTE, WITNESS, seconds=0))], WitnessWrong, "seconds from now"),
    ("has another size", [reply("409 Conflict", b"7\n")], WitnessElsewhere, "signed 7"),
    ("has no size", [reply("409 Conflict", b"-7\n")], WitnessWrong, "no size"),
    ("has an absurd size", [reply("409 Conflict", b"9" * 30)], WitnessWrong, "no size"),
    ("refuses", [reply("403 Forbidden", b"no\x1b[31m\nway" + b"!" * 9000)], WitnessWrong, "403: no \\[31m way!!"),
    ("sends elsewhere", [reply("307 Moved", b"", "location: http://169.254.169.254/")], WitnessAway, "answered 307"),
    ("breaks down", [reply("500 Oh", b"trace")], WitnessAway, "answered 500"),
    ("hangs up", [b""], WitnessAway, "disconnected"),
    ("speaks no HTTP", [b"SSH-2.0-OpenSSH_9.9\r\n\r\n"], WitnessAway, "RemoteProtocolError"),
    ("breaks off", [reply("200 OK", GOOD)[:-9]], WitnessAway, "RemoteProtocolError"),
    (
        "unpacks without end",
        [reply("200 OK", b"\x1f\x8b" + b"\0" * 99, "content-encoding: gzip")],
        WitnessWrong,
        "no signature over this",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "parts", "kind", "words"), HOSTILE, ids=[one[0] for one in HOSTILE])
def test_a_witness_that(name: str, parts: Sequence[bytes], kind: type[WitnessFault], words: str) -> None:
    async def main() -> None:
        async with answering(*parts) as url:
            client = WitnessClient(Witness(WITNESS.verifier, url), clock=lambda: NOW)
            with pytest.raises(kind, match=words):
                await client.ask(request(0, 10, note=NOTE))

    asyncio.run(main())


def test_a_witness_that_answers_ten_gigabytes_is_read_to_a_bound(tmp_path: Path) -> None:
    async def main() -> None:
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        async with answering(head, CHUNK, again=10 * 1024**3 // len(CHUNK)) as url:
            with pytest.raises(WitnessWrong, match=f"more than {MAX_REPLY} bytes"):
                await WitnessClient(Witness(WITNESS.verifier, url)).ask(request(0, 10, note=NOTE))

    asyncio.run(main())


@pytest.mark.parametrize(
    "part", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n\xe2\x80\x94"], ids=["all", "half"]
)
def test_a_witness_that_never_answers_is_given_up_after_the_deadline(part: bytes) -> None:
    async def main() -> None:
        async with answering(part, hang=True) as url:
            client = WitnessClient(Witness(WITNESS.verifier, url), deadline_seconds=0.3)
            with pytest.raises(WitnessAway, match=r"no whole reply within 0\.3 s"):
                await client.ask(request(0, 10, note=NOTE))

    asyncio.run(main())


def test_a_witness_that_signs_is_taken_even_among_strangers_lines() -> None:
    async def main() -> None:
        async with answering(reply("200 OK", cosign(NOTE, OTHER, seconds=NOW) + GOOD)) as url:
            note = await WitnessClient(Witness(WITNESS.verifier, url), clock=lambda: NOW).ask(request(0, 10, note=NOTE))
        assert note.encode() == NOTE.encode() + GOOD

    asyncio.run(main())


def test_failures_make_the_pauses_longer_over_all_processes(database_url: str) -> None:
    async def script(database: Any, sql: Sql) -> None:
        await sealer(database).drain()
        asking = [cosigner(database, "http://127.0.0.1:1") for _ in range(2)]
        pauses: list[float] = []
        for turn in range(4):
            assert await asking[turn % 2].turn() is False
            assert await asking[(turn + 1) % 2].turn() is False  # not due: it is not asked a second time
            ((pause, failures),) = sql(
                "SELECT extract(epoch FROM next_at - now())::float8, failures FROM workhorse.audit_witnesses"
            )
            assert failures == turn + 1
            pauses.append(round(pause))
            sql("UPDATE workhorse.audit_witnesses SET next_at = now()")
        assert pauses == [2, 4, 8, 16]

    on_log(database_url, script)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (str(WITNESS.verifier), "a space and the address"),
        (f"{LOG.verifier} https://w.example", "kind 4"),
        (f"{WITNESS.verifier} http://w.example", "not https"),
        (f"{WITNESS.verifier} https://me@w.example", "without a user"),
        (f"{WITNESS.verifier} https://w.example:x", "malformed"),
        (f"{str(WITNESS.verifier)[:-4]} https://w.example", "audit.witnesses"),
        (f"{WITNESS.verifier} https://a.example,{WITNESS.verifier} https://b.example", "a key twice"),
    ],
    ids=["no address", "log's key", "http", "user", "port", "key", "twice"],
)
def test_a_witness_that_cannot_be_asked_is_refused_at_the_start(tmp_path: Path, text: str, words: str) -> None:
    settings = load_settings(tmp_path, audit={"origin": ORIGIN, "key": LOG.reveal(), "witnesses": text})
    with pytest.raises(SettingsError, match=words):
        witnesses_of(settings)
    more = load_settings(tmp_path, audit={"origin": ORIGIN, "key": LOG.reveal(), "witness_quorum": 1})
    with pytest.raises(SettingsError, match="witness_quorum is 1"):
        witnesses_of(more)
