"""The yardstick: Postgres' own pgbench over the same socket, all statements prepared.

One transfer a transaction: as one call of the bank's SQL function, or as the seven statements that an app sends which
keeps its books itself. There is no HTTP, no Python and no Idempotency-Key in it: it is what the database can do.
"""

import asyncio
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from benchmarks.bank.measuring import Measurement, per_transfer_us
from benchmarks.bank.variants import Ledger
from benchmarks.figures import percentile
from benchmarks.load.messages import AccountRange
from benchmarks.processes import MeasurementError, stop_session, tree_seconds
from workhorse.embedded.binaries import find_postgres

__all__ = ["CLIENTS", "measure_pgbench", "read_log", "read_processed", "script"]

CLIENTS: Final = 8
GRACE_SECONDS: Final = 60.0
_PROCESSED: Final = re.compile(r"^number of transactions actually processed: (\d+)", re.MULTILINE)
_FAILED: Final = re.compile(r"^number of failed transactions: ([1-9]\d*)", re.MULTILINE)

FUNCTION_CALL: Final = """\
SELECT outcome, transfer, at
FROM bank.post_transfer(:payer, :payee, '{currency}', :amount, 'pgbench');
"""
SEVEN_STATEMENTS: Final = """\
BEGIN;
SELECT id, currency, balance, floor FROM accounts WHERE id IN (:payer, :payee) ORDER BY id FOR NO KEY UPDATE;
UPDATE accounts SET balance = balance - :amount WHERE id = :payer;
UPDATE accounts SET balance = balance + :amount WHERE id = :payee;
INSERT INTO transfers (debtor, creditor, currency, amount, reference)
VALUES (:payer, :payee, '{currency}', :amount, 'pgbench') RETURNING id, posted_at \\gset
INSERT INTO entries (transfer, account, amount) VALUES (:id, :payer, -(:amount::bigint)), (:id, :payee, :amount);
COMMIT;
"""
BODIES: Final[Mapping[Ledger, str]] = {"bank": FUNCTION_CALL, "plain": SEVEN_STATEMENTS}


def script(accounts: AccountRange, ledger: Ledger, *, hot: bool = False) -> str:
    """A pgbench script of one transfer between different accounts of one currency.

    Args:
        accounts: that take part.
        ledger: whose tables: the bank has a function for a transfer, the plain ledger takes seven statements.
        hot: whether the first of the accounts is in each transfer, as its payer or as its payee.
    """
    first = f"{accounts.first} + {accounts.step}"
    if hot:
        choice = (
            "\\set side random(0, 1)",
            f"\\set other {first} * random(1, {accounts.count - 1})",
            f"\\set payer case when :side = 0 then {accounts.first} else :other end",
            f"\\set payee case when :side = 0 then :other else {accounts.first} end",
        )
    else:
        choice = (
            f"\\set debtor random(0, {accounts.count - 1})",
            f"\\set creditor (:debtor + random(1, {accounts.count - 1})) % {accounts.count}",
            f"\\set payer {first} * :debtor",
            f"\\set payee {first} * :creditor",
        )
    return "\n".join((*choice, "\\set amount random(1, 500)", BODIES[ledger].format(currency=accounts.currency)))


def read_processed(output: str) -> int:
    """How many transactions pgbench says that it has done.

    Raises:
        MeasurementError: it does not say so, or some failed.
    """
    processed = _PROCESSED.search(output)
    if processed is None or _FAILED.search(output):
        raise MeasurementError(f"pgbench did not do as it was told:\n{output.strip()[-2000:]}")
    return int(processed[1])


def read_log(lines: str) -> list[float]:
    """The latencies in milliseconds from a log of pgbench, whose third column has microseconds."""
    return [int(line.split(" ", 3)[2]) / 1000 for line in lines.splitlines()]


async def measure_pgbench(
    url: str,
    accounts: Sequence[AccountRange],
    postgres_pid: int,
    ledger: Ledger,
    *,
    hot: bool = False,
    warmup_seconds: float,
    seconds: float,
) -> Measurement:
    """Measure pgbench on the database `url`. Durations are rounded to whole seconds, as pgbench wants them.

    Raises:
        MeasurementError: it failed.
    """
    with tempfile.TemporaryDirectory(prefix="bench-pgbench-") as scratch:
        folder = Path(scratch)
        files: list[str] = []
        for each in accounts[:1] if hot else accounts:
            path = folder / f"{each.currency}.sql"
            path.write_text(script(each, ledger, hot=hot), encoding="utf-8")
            files += ["--file", str(path)]
        warmed = read_processed(await _pgbench(url, files, folder, max(1, round(warmup_seconds)), log=False))
        before = tree_seconds(postgres_pid)
        duration = max(1, round(seconds))
        output = await _pgbench(url, files, folder, duration, log=True)
        after = tree_seconds(postgres_pid)
        processed = read_processed(output)
        latencies = sorted(value for log in folder.glob("log.*") for value in read_log(log.read_text(encoding="ascii")))
    return Measurement(
        rate=processed / duration,
        p50_ms=percentile(latencies, 0.5),
        p99_ms=percentile(latencies, 0.99),
        acknowledged=warmed + processed,
        server_us=None,
        postgres_us=per_transfer_us(before, after, processed),
        load_us=None,
    )


async def _pgbench(url: str, files: Sequence[str], folder: Path, seconds: int, *, log: bool) -> str:
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    process = await asyncio.create_subprocess_exec(
        str(find_postgres() / "pgbench"),
        *("--no-vacuum", "--protocol", "prepared", "--client", str(CLIENTS), "--jobs", "1", "--time", str(seconds)),
        *(("--log", "--log-prefix", str(folder / "log")) if log else ()),
        *files,
        *("--host", query["host"][0], "--port", query["port"][0], "--username", parts.username or "postgres"),
        parts.path.lstrip("/"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(seconds + GRACE_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        raise MeasurementError(f"pgbench did not end within {seconds + GRACE_SECONDS:g} s") from None
    finally:
        await stop_session(process)
    return output.decode("utf-8", "replace")
