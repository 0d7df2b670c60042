"""`workhorse privacy map|export|release|erase|scan`: what a privacy officer does.

    workhorse privacy map app:service --against privacy.json
    workhorse privacy export app:service patient/7 --to draft.json
    workhorse privacy release app:service draft.json --reviewed-by dpo --withhold 3='it names a neighbour' --to answer
    workhorse privacy erase app:service patient/7 --reason 'request of 2026-03-01' > receipt.txt
    workhorse privacy scan

Files with what is known of a person are readable by their owner alone.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from workhorse.cli.target import load_service
from workhorse.errors import SettingsError
from workhorse.service.rooms import find_urls
from workhorse.settings import load_settings
from workhorse.state.postgres.database import PostgresDatabase
from workhorse.units import Unit

if TYPE_CHECKING:
    from workhorse.privacy import Privacy
    from workhorse.service import Service

__all__ = ["NAME", "SUMMARY", "configure", "run"]

NAME: Final = "privacy"
SUMMARY: Final = "What the app knows of people: the map, exports, erasures; and card numbers where none should be."
STATEMENT_SECONDS: Final = 600.0
MAX_FINDINGS: Final = 1_000
TARGET: Final = "for example bank.app:service"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    verbs = parser.add_subparsers(title="what to do", metavar="VERB", required=True)
    map_ = verbs.add_parser("map", help="which field holds what (GDPR, article 30); fails if nobody has said of one")
    map_.add_argument("target", metavar="MODULE:SERVICE", help=TARGET)
    map_.add_argument("--format", choices=("text", "json", "markdown", "html"), default="text")
    map_.add_argument("--against", type=Path, metavar="FILE", help="fail (exit 1) where it differs from this JSON")
    map_.set_defaults(on_privacy=_map)
    export = verbs.add_parser("export", help="gather what is known of a person, for somebody to look through")
    export.add_argument("target", metavar="MODULE:SERVICE", help=TARGET)
    export.add_argument("subject", help="such as patient/7")
    export.add_argument("--to", type=Path, required=True, metavar="FILE", help="the draft; a new file")
    export.set_defaults(on_privacy=_export)
    release = verbs.add_parser("release", help="make of a draft what the person is given, as JSON and as a page")
    release.add_argument("target", metavar="MODULE:SERVICE", help=TARGET)
    release.add_argument("draft", type=Path)
    release.add_argument("--reviewed-by", required=True, metavar="WHO", help="has looked through it")
    release.add_argument(
        "--withhold", action="append", default=[], metavar="NUMBER=WHY", help="leave out an entry of the draft"
    )
    release.add_argument("--to", type=Path, required=True, metavar="NAME", help="NAME.json and NAME.html are made")
    release.set_defaults(on_privacy=_release)
    erase = verbs.add_parser("erase", help="erase a person, and print the receipt")
    erase.add_argument("target", metavar="MODULE:SERVICE", help=TARGET)
    erase.add_argument("subject", help="such as patient/7")
    erase.add_argument("--reason", required=True, help="it stays, so it names nobody")
    erase.set_defaults(on_privacy=_erase)
    scan = verbs.add_parser("scan", help="look for card numbers in the database, or in files; exit 1 if there are any")
    scan.add_argument("files", type=Path, nargs="*", help="such as logs (default: the database)")
    scan.set_defaults(on_privacy=_scan)


def run(arguments: argparse.Namespace) -> int:
    """Do it."""
    code: int = arguments.on_privacy(arguments)
    return code


def _map(arguments: argparse.Namespace) -> int:
    from workhorse.privacy import map_page  # noqa: PLC0415 - most verbs need it not

    service = load_service(arguments.target)
    privacy = _privacy_in(service, arguments.target)
    data_map = privacy.data_map
    now = data_map.as_json()
    rows = [(str(row["model"]), str(row["field"]), str(row["class"] or "NOBODY HAS SAID")) for row in now]
    if arguments.format == "json":
        sys.stdout.write(json.dumps(now, indent=1) + "\n")
    elif arguments.format == "markdown":
        sys.stdout.write("| model | field | class |\n|---|---|---|\n")
        sys.stdout.write("".join(f"| {' | '.join(row)} |\n" for row in rows))
    elif arguments.format == "html":
        page = map_page(privacy, title=arguments.target, events=service.events.values())
        sys.stdout.write(page.decode() + "\n")
    else:
        widths = [max((len(row[at]) for row in rows), default=0) for at in range(3)]
        for row in rows:
            sys.stdout.write(
                "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n"
            )
    if arguments.against is not None and (told := _differences(_read_json(arguments.against), now)):
        sys.stderr.write("".join(f"workhorse: since {arguments.against}: {line}\n" for line in told))
        return 1
    if data_map.unclassified:
        sys.stderr.write(f"workhorse: of {len(data_map.unclassified)} fields nobody has said what they hold\n")
        return 1
    return 0


def _export(arguments: argparse.Namespace) -> int:
    privacy = _privacy_of(arguments.target)

    async def main() -> int:
        async with _database() as database, Unit(database, isolation="repeatable read") as work:
            try:
                draft = await privacy.draft(work, arguments.subject)
            except ValueError as error:
                raise SettingsError(str(error)) from error
        _write_private(arguments.to, draft.as_json())
        sys.stdout.write(
            f"{len(draft.entries)} entries about {draft.subject} are in {arguments.to}. Look through them, and then:\n"
            f"  workhorse privacy release {arguments.target} {arguments.to} --reviewed-by WHO --to NAME\n"
        )
        return 0

    return asyncio.run(main())


def _release(arguments: argparse.Namespace) -> int:
    from workhorse.privacy import Draft, export_page  # noqa: PLC0415 - most verbs need neither

    privacy = _privacy_of(arguments.target)
    try:
        draft = Draft.read(arguments.draft.read_bytes())
        export = draft.release(reviewed_by=arguments.reviewed_by, withhold=_reasons(arguments.withhold))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{arguments.draft}: {error}") from error

    async def main() -> int:
        async with _database() as database, Unit(database) as work:
            await privacy.released(work, export)
        return 0

    # Recorded before it can leave.
    asyncio.run(main())
    for ending, content in ((".json", export.as_json()), (".html", export_page(export))):
        _write_private(arguments.to.with_name(arguments.to.name + ending), content)
    sys.stdout.write(
        f"{arguments.to}.json and {arguments.to}.html: {len(export.entries)} entries, {len(export.withheld)} withheld\n"
    )
    return 0


def _erase(arguments: argparse.Namespace) -> int:
    privacy = _privacy_of(arguments.target)

    async def main() -> int:
        async with _database() as database:
            try:
                async with Unit(database) as work:
                    receipt = await privacy.erase(work, arguments.subject, reason=arguments.reason)
            except ValueError as error:
                raise SettingsError(str(error)) from error
        sys.stdout.buffer.write(await _signed(receipt.text))
        return 0

    return asyncio.run(main())


def _scan(arguments: argparse.Namespace) -> int:
    from workhorse.privacy.scan import scan_database, scan_file  # noqa: PLC0415 - most verbs need neither

    found = 0

    def tell(where: str, masked: str) -> bool:
        nonlocal found
        found += 1
        sys.stdout.write(f"{where}  {masked}\n")
        return found < MAX_FINDINGS

    async def main() -> None:
        async with _database() as database, Unit(database, read_only=True) as work:
            async for finding in scan_database(work):
                if not tell(f"{finding.where} {finding.row}", finding.masked):
                    return

    if arguments.files:
        try:
            for path in arguments.files:
                if not all(tell(finding.where, finding.masked) for finding in scan_file(path)):
                    break
        except OSError as error:
            raise SettingsError(f"a file cannot be read: {error}") from error
    else:
        asyncio.run(main())
    sys.stderr.write(f"workhorse: {found or 'no'} card numbers{' (or more)' if found >= MAX_FINDINGS else ''}\n")
    return int(found > 0)


def _privacy_of(target: str) -> "Privacy":
    return _privacy_in(load_service(target), target)


def _privacy_in(service: "Service", target: str) -> "Privacy":
    privacy = service.privacy
    if privacy is None:
        raise SettingsError(f"{target!r} does not say what it knows of people: Service(privacy=Privacy(...))")
    return privacy


@asynccontextmanager
async def _database() -> AsyncGenerator[PostgresDatabase]:
    async with find_urls(load_settings()) as urls:
        database = PostgresDatabase(urls.database, pool_max=1, statement_timeout_seconds=STATEMENT_SECONDS)
        await database.open()
        try:
            yield database
        finally:
            await database.close()


async def _signed(text: str) -> bytes:
    """The receipt; signed, where the service keeps an audit log."""
    settings = load_settings()
    if not settings.audit.origin:
        return text.encode()
    from workhorse.audit import Note  # noqa: PLC0415 - it needs cryptography, an extra
    from workhorse.sealer.hosting import key_provider  # noqa: PLC0415 - as above

    keys = await key_provider(settings).keys()
    return Note(text).sign(keys.signer).encode()


def _write_private(path: Path, content: bytes) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise SettingsError(f"{path} cannot be made: {error.strerror}; name a new file") from error
    with os.fdopen(handle, "wb") as file:
        file.write(content)


def _reasons(given: list[str]) -> dict[int, str]:
    reasons: dict[int, str] = {}
    for one in given:
        number, equals, why = one.partition("=")
        if not number.isdigit() or not equals or not why:
            raise SettingsError(f"--withhold {one!r} is not NUMBER=WHY, such as 3='it names a neighbour'")
        reasons[int(number)] = why
    return reasons


def _read_json(path: Path) -> list[dict[str, str | None]]:
    try:
        said: list[dict[str, str | None]] = json.loads(path.read_bytes())
        return [{"model": row["model"], "field": row["field"], "class": row["class"]} for row in said]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{path} cannot be read as a map; make it with --format json: {error}") from error


def _differences(then: list[dict[str, str | None]], now: list[dict[str, str | None]]) -> list[str]:
    def by_name(rows: list[dict[str, str | None]]) -> Mapping[str, Any]:
        return {f"{row['model']}.{row['field']}": row["class"] for row in rows}

    before, after = by_name(then), by_name(now)
    lines = [f"{name} is gone" for name in sorted(before.keys() - after.keys())]
    lines += [f"{name} is new ({after[name]})" for name in sorted(after.keys() - before.keys())]
    lines += [
        f"{name} was {before[name]}, is {after[name]}"
        for name in sorted(before.keys() & after.keys())
        if before[name] != after[name]
    ]
    return lines
