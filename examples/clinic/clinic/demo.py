"""A day at the clinic: real servers, its people at work, and the record of who looked at what.

    python -m clinic.demo
    python -m clinic.demo --serve

Starts an embedded Postgres, makes the schema by `manage.py migrate`, serves the clinic with `workhorse run`, and plays
a story over HTTP, each line of which is checked. The exit code is 0 if all went as told. `--serve` keeps it running.
"""

import argparse
import os
import secrets
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from clinic.people import Person
from clinic.story import Clinic, play
from workhorse.embedded import attach, drop_database, fresh_database
from workhorse.servers.launch import free_port
from workhorse.settings import load_settings

__all__ = ["main", "prepare", "serve"]

FOLDER: Final = Path(__file__).parents[1]
HOST: Final = "127.0.0.1"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0


def main() -> int:
    """Play, and return the exit code."""
    parser = argparse.ArgumentParser(prog="clinic.demo", description="A day at the clinic.")
    parser.add_argument("--port", type=int, default=0, help="where it is served; any free port by default")
    parser.add_argument("--serve", action="store_true", help="keep it running afterwards, until Ctrl-C")
    given = parser.parse_args()
    password = secrets.token_urlsafe(12)
    with ExitStack() as stack:
        print("servers ...", flush=True)
        attachment = stack.enter_context(attach(load_settings(FOLDER).embedded_folder))
        url = fresh_database(attachment.database_url)
        stack.callback(drop_database, url)
        environment = environment_of(os.environ, url, password)
        print("schema and staff ...", flush=True)
        prepare(environment)
        port = given.port or free_port(HOST, 0)
        stack.enter_context(serve(port, environment))
        print(f"open http://{HOST}:{port}/admin/ (rosa, pia, paul, noor or olga; password {password})\n", flush=True)
        wrong = 0
        for line in play(Clinic(HOST, port, password, url)):
            print(f"  {'ok ' if line.held else 'NOT'} {line.told}", flush=True)
            wrong += not line.held
        print(f"\n{'all went as told' if not wrong else f'{wrong} lines did not'}")
        if given.serve:
            print("it keeps running; Ctrl-C ends it", flush=True)
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
    return min(wrong, 1)


def environment_of(environ: Mapping[str, str], url: str, password: str) -> dict[str, str]:
    """The environment of the clinic's processes. A database that somebody works with may be named there: not this."""
    named = {"DATABASE_URL", "WORKHORSE_DATABASE__URL"}
    kept = {name: value for name, value in environ.items() if name.upper() not in named}
    return {
        **kept,
        "DATABASE_URL": url,
        "CLINIC_PASSWORD": password,
        "WORKHORSE_ENVIRONMENT": "development",
        "WORKHORSE_LOG__ACCESS": "false",
    }


def prepare(environment: Mapping[str, str]) -> None:
    """Make the schema and the staff.

    Raises:
        subprocess.CalledProcessError: it failed, and has said why.
    """
    for command in (("migrate", "--verbosity", "0"), ("make_demo_staff",)):
        subprocess.run([sys.executable, "manage.py", *command], cwd=FOLDER, env=dict(environment), check=True)


@contextmanager
def serve(port: int, environment: Mapping[str, str]) -> Iterator[Path]:
    """Serve the clinic as long as the context lasts. Gives its log.

    Raises:
        RuntimeError: it did not start; the message has the end of its log.
    """
    with tempfile.TemporaryDirectory(prefix="clinic-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    Path(sysconfig.get_path("scripts")) / "workhorse",
                    *("run", "clinic.asgi:service", "--host", HOST, "--port", str(port)),
                ],
                cwd=FOLDER,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            _wait_until_ready(port, process, log)
            yield log
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _wait_until_ready(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < give_up:
        try:
            with Person(HOST, port) as nobody:
                if nobody.get("/-/ready").status == 200:
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"the clinic did not start. Its log ends:\n{log.read_text()[-4000:]}")


if __name__ == "__main__":
    sys.exit(main())
