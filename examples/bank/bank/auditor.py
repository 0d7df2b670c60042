"""The audit log of the demo, and what an outsider finds in it when the database's operator has changed an amount.

The bank seals its journal (docs/audit.md) with a key that is made at the first demo. The operator here has every right
on the database and uses it: one amount of one event is written over. The verbs that find it are those of an auditor,
and need nothing of the bank but an export and the public key. Then the amount is put back, so that the next demo finds
the log as it was.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg

from bank.demo_server import FOLDER, demo_environment
from workhorse.sql import Queries, load_queries

__all__ = ["Auditor", "Finding"]

ORIGIN: Final = "bank.example/audit"
SEAL_SECONDS: Final = 90.0
POLL_SECONDS: Final = 0.2
VERB_SECONDS: Final = 300.0


class Finding(NamedTuple):
    """What came of the visit."""

    sealed: int
    """Events in the log."""
    event: str
    """The event whose amount was changed."""
    found: bool
    """Whether the verifier named it, and it alone."""
    said: str
    """What the verifier said."""


@dataclass(frozen=True, slots=True)
class Auditor:
    """Whoever checks the bank.

    Args:
        folder: where the key is kept: that of the database's own data, which goes when the key goes.
        database_url: the bank's database.
    """

    folder: Path
    database_url: str

    @property
    def _key_file(self) -> Path:
        return self.folder / "bank-audit.key"

    @property
    def _public_file(self) -> Path:
        return self.folder / "bank-audit.pub"

    def settings(self) -> dict[str, str]:
        """The environment in which the bank seals its journal. Makes the key, if there is none."""
        if not self._public_file.exists():
            self._key_file.unlink(missing_ok=True)
            made = self._verb("key", ORIGIN, str(self._key_file))
            self._public_file.write_text(made.stdout.strip())
        return {"WORKHORSE_AUDIT__ORIGIN": ORIGIN, "WORKHORSE_AUDIT__KEY_FILE": str(self._key_file)}

    def find_an_edit(self) -> Finding:
        """Have an amount changed behind the bank's back, export the log, and verify it. Puts the amount back.

        Raises:
            TimeoutError: not every event was sealed and signed in time.
        """
        queries = load_queries("bank", "sql/auditor.sql")
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            sealed = _await_signature(connection, queries)
            with _edited(connection, queries) as event, tempfile.TemporaryDirectory(prefix="bank-audit-") as folder:
                export = str(Path(folder) / "export")
                self._verb("export", export)
                verified = self._verb("verify", export, "--log-key", self._public_file.read_text())
        named = [line for line in verified.stdout.splitlines() if "SHA-256 of data" in line]
        found = verified.returncode == 1 and len(named) == 1 and event in named[0]
        return Finding(sealed, event, found, verified.stdout.strip())

    def _verb(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run `workhorse audit`.

        Raises:
            RuntimeError: it could not do what it was asked; `verify` ends with 1 where it has found something.
        """
        done = subprocess.run(  # noqa: S603 - our own verb
            [sys.executable, "-m", "workhorse.cli", "audit", *words],
            cwd=FOLDER,
            env=self._environment(os.environ),
            capture_output=True,
            text=True,
            timeout=VERB_SECONDS,
            check=False,
        )
        if done.returncode not in {0, 1} or (done.returncode == 1 and words[0] != "verify"):
            raise RuntimeError(f"workhorse audit {words[0]} failed: {done.stderr.strip()[-500:]}")
        return done

    def _environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        return {**demo_environment(environ), "DATABASE_URL": self.database_url}


def _await_signature(connection: "psycopg.Connection[Any]", queries: Queries) -> int:
    """Wait until every event is sealed and signed. Returns how many there are."""
    give_up = time.monotonic() + SEAL_SECONDS
    while True:
        row = connection.execute(queries["standing"].encode()).fetchone()
        assert row is not None
        if row[0] == row[1]:
            return int(row[0])
        if time.monotonic() > give_up:
            raise TimeoutError(f"of {row[0]:,} events {row[1]:,} are sealed and signed after {SEAL_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)


@contextmanager
def _edited(connection: "psycopg.Connection[Any]", queries: Queries) -> Generator[str]:
    """Write over an amount of the newest transfer for the block. Gives the event's id."""
    ((event, data),) = connection.execute(queries["newest"].encode()).fetchall()
    connection.execute(queries["edit"].encode(), (event,))
    try:
        yield str(event)
    finally:
        connection.execute(queries["put_back"].encode(), (data, event))
