"""A witness as its own team runs it: the command, in a process, on a port."""

import os
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.audit.kit import LOG, signer
from workhorse.audit.keys import COSIGNATURE, Signer, Verifier

WITNESS = signer("w1.example/witness", COSIGNATURE)


def witness_folder(path: Path, *, key: Signer = WITNESS, logs: tuple[Verifier, ...] = (LOG.verifier,)) -> Path:
    """What the commands `key` and `--admit` leave."""
    path.mkdir()
    (path / "key").write_text(f"{key.reveal()}\n")
    admitted = command("witness", str(path), *(word for log in logs for word in ("--admit", str(log))))
    subprocess.run(admitted, check=True, capture_output=True, timeout=60)
    return path


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "workhorse.cli", "audit", *words]


@contextmanager
def served(folder: Path) -> Generator[str]:
    """Serve the folder, and give the address."""
    process = subprocess.Popen(
        command("witness", str(folder), "--port", "0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ,
    )
    try:
        assert process.stdout is not None
        said: list[bytes] = []
        giving_up = threading.Timer(60, process.kill)
        giving_up.start()
        while not said or b" at http" not in said[-1]:
            said.append(process.stdout.readline())
            assert said[-1], (b"".join(said), process.wait(10))
        giving_up.cancel()
        yield said[-1].split()[-1].decode()
    finally:
        process.terminate()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()
