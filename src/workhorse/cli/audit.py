"""`workhorse audit VERB`: what an auditor does with an export, how it is made, and what a witness is served with.

    workhorse audit verify export --log-key 'bank.example/audit+1a2b3c4d+AUxb…'
    workhorse audit prove export 01900000-0000-7000-8000-000000000000 --show-data > transfer.tlog-proof
    workhorse audit check transfer.tlog-proof --log-key 'bank.example/audit+1a2b3c4d+AUxb…'

    workhorse audit export export
    workhorse audit prove 01900000-0000-7000-8000-000000000000 > transfer.tlog-proof

The first three need neither a database nor a network, and read no settings: an auditor has only the export and public
keys. The last two read the database (`audit_database`).
"""

import argparse
import os
import secrets
import sys
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec

from workhorse.errors import SettingsError

if TYPE_CHECKING:
    from workhorse.audit import FolderExport, Note, Trust
    from workhorse.audit.export import Export

__all__ = ["NAME", "SUMMARY", "configure", "run"]

NAME: Final = "audit"
SUMMARY: Final = "Verify an export of the audit log, offline; prove one event, and check a proof."
MAX_FILE: Final = 24 * 1024 * 1024


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    verbs = parser.add_subparsers(title="what to do", metavar="VERB", required=True)
    verify = verbs.add_parser("verify", help="say whether an export is as it was signed, or what was done to it")
    verify.add_argument("folder", metavar="FOLDER|URL", help="an export, or the address below which a log is served")
    verify.add_argument("--token-file", type=Path, metavar="FILE", help="the bearer token that the address asks for")
    verify.add_argument(
        "--anchor", type=Path, action="append", default=[], metavar="FILE", help="a checkpoint that was kept elsewhere"
    )
    verify.add_argument(
        "--anchors",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="many of them: a folder, as `audit anchors` makes it, or the file of audit.anchor_file",
    )
    verify.add_argument("--json", action="store_true", help="the report as JSON")
    verify.set_defaults(on_audit=_verify)
    prove = verbs.add_parser("prove", help="make the proof that one event is in the log")
    prove.add_argument("folder", type=Path, nargs="?", help="of an export (default: from the database)")
    prove.add_argument("event", help="its id, or its index in the log")
    prove.add_argument("--show-data", action="store_true", help="put the event's data into the proof too")
    prove.set_defaults(on_audit=_prove)
    check = verbs.add_parser("check", help="check such a proof")
    check.add_argument("file", type=Path)
    check.set_defaults(on_audit=_check)
    for verb in (verify, check):
        _configure_trust(verb)
    export = verbs.add_parser("export", help="write the log of the database into a folder, for an auditor")
    export.add_argument("folder", type=Path, help="a new one")
    export.add_argument("--without-events", action="store_true", help="the log alone, without the events' data")
    export.set_defaults(on_audit=_export_database)
    anchors = verbs.add_parser("anchors", help="fetch the checkpoints that an object store keeps, as they were first")
    anchors.add_argument("folder", type=Path, help="a new one, for `verify --anchors`")
    anchors.add_argument("--store", metavar="ADDRESS", help="s3://bucket/prefix (default: audit.anchor_s3)")
    anchors.set_defaults(on_audit=_fetch_anchors)
    status = verbs.add_parser("status", help="how far the log of the database is sealed and signed")
    status.add_argument(
        "--most-seconds", type=float, default=60.0, help="fail if an event waits longer (default: %(default)g)"
    )
    status.set_defaults(on_audit=_status)
    resume = verbs.add_parser("resume", help="go on with a log that was restored into another database cluster")
    resume.add_argument("--confirm", default="", metavar="NAME", help="do it; else it is only said what is found")
    resume.set_defaults(on_audit=_resume)
    witness = verbs.add_parser("witness", help="serve a witness, which signs that others' logs only grow")
    witness.add_argument("folder", type=Path, help="with its key, and what it remembers; on a disk that is kept")
    witness.add_argument("--admit", action="append", metavar="KEY", help="witness the log of this key from now on")
    witness.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    witness.add_argument("--port", type=int, default=8080, help="port to listen on; 0 chooses a free one")
    witness.set_defaults(on_audit=_witness)
    key = verbs.add_parser("key", help="make a key: the private one into a file, the public one to standard output")
    key.add_argument("name", help="who signs, such as bank.example/audit")
    key.add_argument("file", type=Path, help="a new file")
    key.add_argument("--witness", action="store_true", help="a key that signs for having seen a checkpoint")
    key.set_defaults(on_audit=_key)


def _configure_trust(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--log-key", action="append", required=True, metavar="KEY", help="a public key of the log; may be repeated"
    )
    verb.add_argument("--origin", help="the log's name (default: that of its first key)")
    verb.add_argument("--witness", action="append", default=[], metavar="KEY", help="a witness's; may be repeated")
    verb.add_argument("--quorum", type=int, help="how many witnesses must have signed (default: all that are named)")
    verb.add_argument("--seen-since", metavar="TIME", help="and not before, such as 2026-03-01T00:00:00Z")


def run(arguments: argparse.Namespace) -> int:
    """Do it."""
    # In a function, like every import of the room: the other verbs need no cryptography, which is an extra.
    try:
        from workhorse.audit import AuditFault  # noqa: PLC0415
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "cryptography":
            raise
        raise SettingsError("the audit log needs the package cryptography: pip install 'workhorse[audit]'") from error

    try:
        code: int = arguments.on_audit(arguments)
    except AuditFault as error:
        sys.stderr.write(f"workhorse: {error}\n")
        return 1
    return code


def _verify(arguments: argparse.Namespace) -> int:
    from workhorse.audit import render_report, verify  # noqa: PLC0415
    from workhorse.audit.fetching import HttpExport  # noqa: PLC0415

    if arguments.folder.startswith(("http://", "https://")):
        token = "" if arguments.token_file is None else _read(arguments.token_file).decode("latin-1").strip()
        export: Export = HttpExport(arguments.folder, token=token)
    else:
        export = _export(Path(arguments.folder))
    report = verify(export, _trust(arguments), anchors=_anchors(arguments))
    text = msgspec.json.encode(report).decode() if arguments.json else render_report(report)
    sys.stdout.write(text + "\n")
    return 0 if report.ok else 1


def _anchors(arguments: argparse.Namespace) -> list[bytes]:
    """The checkpoints that were kept elsewhere. A path that has none is refused: it would pass for looked at."""
    from workhorse.sealer.anchors import FileAnchor  # noqa: PLC0415 - it needs cryptography

    anchors = [_read(path) for path in arguments.anchor]
    for path in arguments.anchors:
        if path.is_dir():
            found = [_read(one) for one in sorted(path.rglob("*")) if one.is_file()]
        else:
            found = FileAnchor(path).all()
        if not found:
            raise SettingsError(f"no checkpoint is kept in {path}; name the folder or file of an anchor")
        anchors += found
    return anchors


def _fetch_anchors(arguments: argparse.Namespace) -> int:
    from workhorse.cli.audit_database import fetch_anchors  # noqa: PLC0415 - it needs cryptography

    return fetch_anchors(arguments.folder, arguments.store)


def _export_database(arguments: argparse.Namespace) -> int:
    from workhorse.cli.audit_database import export_to  # noqa: PLC0415 - it needs cryptography

    return export_to(arguments.folder, with_events=not arguments.without_events)


def _status(arguments: argparse.Namespace) -> int:
    from workhorse.cli.audit_database import print_status  # noqa: PLC0415 - it needs cryptography

    return print_status(most_seconds=arguments.most_seconds)


def _resume(arguments: argparse.Namespace) -> int:
    from workhorse.cli.audit_database import resume_restored  # noqa: PLC0415 - it needs cryptography

    return resume_restored(confirmed=arguments.confirm)


def _prove(arguments: argparse.Namespace) -> int:
    if arguments.folder is None:
        from workhorse.cli.audit_database import prove_from_database  # noqa: PLC0415 - it needs cryptography

        return prove_from_database(arguments.event, show_data=arguments.show_data)
    from workhorse.audit import prove  # noqa: PLC0415
    from workhorse.audit.checkpoints import Checkpoint  # noqa: PLC0415
    from workhorse.audit.export import read_tile_of  # noqa: PLC0415
    from workhorse.audit.proofs import find_entry  # noqa: PLC0415

    export = _export(arguments.folder)
    note = _last_checkpoint(export)
    read = partial(read_tile_of, export)
    size = Checkpoint.parse(note.text).size
    index = int(arguments.event) if arguments.event.isdecimal() else find_entry(read, size, _event_id(arguments.event))
    if index is None or index >= size:
        sys.stderr.write(f"workhorse: the log of {size} entries has no event {arguments.event}\n")
        return 1
    data = _data_of(export, index) if arguments.show_data else None
    sys.stdout.buffer.write(prove(read, note, index, data=data))
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from workhorse.audit import check_proof  # noqa: PLC0415
    from workhorse.audit.report import moment_text  # noqa: PLC0415

    proved = check_proof(_read(arguments.file), _trust(arguments))
    lines = [f"index       {proved.index} of {proved.believed.checkpoint.size} in {proved.believed.checkpoint.origin}"]
    lines.append(f"entry       {proved.entry.encode().decode()}")
    lines.append(f"data        {'not shown' if proved.data is None else proved.data.decode()}")
    lines += [
        f"witness     {name} at {moment_text(seconds)}" for name, seconds in sorted(proved.believed.witnesses.items())
    ]
    sys.stdout.write("\n".join([*lines, "OK", ""]))
    return 0


def _witness(arguments: argparse.Namespace) -> int:
    from workhorse.cli.audit_witness import admit, serve_witness  # noqa: PLC0415 - it needs cryptography

    if arguments.admit:
        return admit(arguments.folder, arguments.admit)
    return serve_witness(arguments.folder, host=arguments.host, port=arguments.port)


def _key(arguments: argparse.Namespace) -> int:
    from workhorse.audit import new_signer  # noqa: PLC0415
    from workhorse.audit.keys import COSIGNATURE, ED25519  # noqa: PLC0415

    signer = new_signer(arguments.name, kind=COSIGNATURE if arguments.witness else ED25519, random=secrets.token_bytes)
    try:
        descriptor = os.open(arguments.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise SettingsError(f"the private key goes into a new file, not {arguments.file}: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(signer.reveal() + "\n")
    sys.stdout.write(f"{signer.verifier}\n")
    return 0


def _trust(arguments: argparse.Namespace) -> "Trust":
    from workhorse.audit import AuditFault, Trust, Verifier  # noqa: PLC0415

    try:
        logs = tuple(Verifier.parse(text) for text in arguments.log_key)
        witnesses = tuple(Verifier.parse(text) for text in arguments.witness)
        return Trust(
            origin=arguments.origin or logs[0].name,
            logs=logs,
            witnesses=witnesses,
            quorum=len(witnesses) if arguments.quorum is None else arguments.quorum,
            seen_since=None if arguments.seen_since is None else _seconds(arguments.seen_since),
        )
    except (AuditFault, ValueError) as error:
        raise SettingsError(str(error)) from error


def _export(folder: Path) -> "FolderExport":
    from workhorse.audit import FolderExport  # noqa: PLC0415

    if not folder.is_dir():
        raise SettingsError(f"{folder} is no folder; name that of an export, in which the file checkpoint lies")
    return FolderExport(folder)


def _last_checkpoint(export: "FolderExport") -> "Note":
    from workhorse.audit import Note  # noqa: PLC0415
    from workhorse.audit.export import CHECKPOINT, read_note  # noqa: PLC0415

    return Note.parse(read_note(export, CHECKPOINT) or b"")


def _data_of(export: "FolderExport", index: int) -> bytes:
    from workhorse.audit.rows import read_row  # noqa: PLC0415

    for line in export.lines() or ():
        row = read_row(line)
        if row.index == index:
            return row.data
    raise SettingsError(f"the events of the export have none of the index {index}, whose data could be shown")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE + 1)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error


def _event_id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError as error:
        raise SettingsError(f"{text!r} is neither an event's id nor an index in the log") from error


def _seconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"the time {text} has no zone; write it as 2026-03-01T00:00:00Z")
    return int(moment.timestamp())
