"""What the audit log, the records of requests and privacy cost.

    python -m benchmarks.audit
    python -m benchmarks.audit --quick

Audited requests beside others (`requests`), the history of a changed row beside that of django-auditlog and of
SQLAlchemy-Continuum (`history`), sealing, verifying and proofs (`log`), sealed fields, and the export and erasure of a
person (`personal`), columns that seal themselves beside SQLAlchemy-Utils' (`columns`). No other ledger is measured:
there is none that runs here beside an app's own tables.
"""

import argparse
import asyncio
import os
import platform
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from benchmarks.audit import columns, history, requests
from benchmarks.audit.log import LogTimes, ProofTimes, time_log, time_proofs
from benchmarks.audit.personal import FieldTimes, PersonTimes, time_fields, time_person
from benchmarks.figures import Claim, percentile
from benchmarks.program import conduct
from workhorse.embedded import attach
from workhorse.testing import migrated_database
from workhorse.testing.databases import drop_database

__all__ = ["main", "measure", "report"]

FOLDER: Final = Path(__file__).parents[2] / ".workhorse"
EVENTS: Final = 50_000
PERSONAL_EVENTS: Final = 100_000
FIELDS: Final = 20_000
# What the bank posts at its fullest, and what fits into a mail beside its text.
EVENTS_A_SECOND: Final = 3_000
LAG_SECONDS: Final = 2
PROOF_BYTES: Final = 1_024


async def measure(
    *,
    events: int,
    personal_events: int,
    fields: int,
    rounds: int,
    folder: Path = FOLDER,
    contestants: Collection[str] = tuple(history.LINES),
) -> str:
    """Measure all of it, and return what is to be printed.

    Args:
        events: how many are sealed.
        personal_events: how many the person has.
        fields: how many are sealed and opened.
        rounds: of audited requests and of the history of changed rows.
        folder: where the servers have their data.
        contestants: of the history; the peers' libraries are only in the benchmarks' own environment.

    Raises:
        MeasurementError: something was not as it should have been; then there are no figures.
    """
    per_round = 100 if rounds > 1 else 5
    printed = await requests.measure(rounds=rounds, requests=per_round, folder=folder)
    with await asyncio.to_thread(attach, folder, cache=False) as attachment:
        url = await asyncio.to_thread(migrated_database, attachment.database_url)
        try:
            log = await time_log(url, events=events, rate=EVENTS_A_SECOND, seconds=10 if rounds > 1 else 0.3)
            field = await time_fields(url, fields=fields)
            person = await time_person(url, events=personal_events)
            peer = bool(history.PEERS.keys() & set(contestants))
            sealed = await asyncio.to_thread(
                columns.time_columns, url, rows=10 * per_round, rounds=min(rounds, 10), peer=peer
            )
        finally:
            await asyncio.to_thread(drop_database, url)
        urls = {name: await asyncio.to_thread(migrated_database, attachment.database_url) for name in contestants}
        try:
            histories = await history.time_history(urls, rounds=rounds, changes=per_round)
        finally:
            for each in urls.values():
                await asyncio.to_thread(drop_database, each)
    proofs = await asyncio.to_thread(time_proofs)
    told = [printed, history.table(histories), columns.table(sealed), report(log, proofs, field, person)]
    claims = [*history.claims(histories), *columns.claims(sealed)]
    return "\n\n".join(told) + "".join(f"\n{claim}" for claim in claims)


def report(log: LogTimes, proofs: Sequence[ProofTimes], field: FieldTimes, person: PersonTimes) -> str:
    """The tables and the claims."""
    sealed = log.events / log.seal_seconds
    verified = log.events / log.verify_seconds
    lag, most = (percentile(log.lags, share) for share in (0.5, 0.99))
    cpu_us = log.seal_cpu_seconds / log.events * 1e6
    export_s, erase_ms = person.export_seconds, person.erase_seconds * 1e3
    claims = [
        Claim("audit-sealed-events-per-second", sealed, EVENTS_A_SECOND),
        Claim("audit-lag-p99-seconds", most, LAG_SECONDS, "<"),
        Claim("audit-verified-events-per-second", verified, EVENTS_A_SECOND),
        Claim("audit-proof-bytes-at-100-million", proofs[-1].bytes, PROOF_BYTES, "<"),
    ]
    return "\n".join(
        [
            f"{os.cpu_count()} cores, Python {platform.python_version()}",
            "",
            f"{log.events} events: sealed {sealed:.0f}/s ({cpu_us:.0f} us of CPU each), verified {verified:.0f}/s",
            f"at {EVENTS_A_SECOND} events/s: signed {lag:.2f} s after their commit (p50), {most:.2f} s (p99)",
            "",
            f"{'entries':>12}{'hashes':>8}{'bytes':>7}{'prove us':>10}{'check us':>10}",
            *(
                f"{one.size:>12}{one.hashes:>8.1f}{one.bytes:>7.0f}{one.prove_us:>10.1f}{one.check_us:>10.1f}"
                for one in proofs
            ),
            "",
            f"a field: sealed in {field.seal_us:.1f} us, opened in {field.open_us:.1f} us",
            f"a person of {person.events} events: exported in {export_s:.2f} s, erased in {erase_ms:.0f} ms",
            "",
            *map(str, claims),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.audit", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few of each: shows that it works, no more")
    given = parser.parse_args(arguments)
    if given.quick:
        return conduct(measure(events=300, personal_events=50, fields=50, rounds=1))
    return conduct(measure(events=EVENTS, personal_events=PERSONAL_EVENTS, fields=FIELDS, rounds=20))


if __name__ == "__main__":
    sys.exit(main())
