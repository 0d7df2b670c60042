"""Look at, wait for and kill the processes of one folder of embedded servers, from outside of them."""

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from typing import Any

import psycopg
import valkey

from workhorse.embedded import ServerName, ServerStatus, status

NOBODY = 65534
CLONE_NEWUSER = 0x10000000

CLIENT = """
import sys, time
from pathlib import Path
from workhorse.embedded import attach
servers = attach(Path(sys.argv[1]), linger_seconds=float(sys.argv[2]))
print(servers.database_url, flush=True)
time.sleep(60)
"""

# Root of a user namespace that maps every id to itself, and may make no further ones.
CONFINED_ROOT = f"""
import ctypes, os, sys
ready, go = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    assert ctypes.CDLL(None).unshare({CLONE_NEWUSER}) == 0
    os.write(ready[1], b"!")
    os.read(go[0], 1)
    open("/proc/sys/user/max_user_namespaces", "w").write("0")
    os.execv(sys.executable, [sys.executable, "-c", *sys.argv[1:]])
os.read(ready[0], 1)
for name in ("uid_map", "gid_map"):
    open(f"/proc/{{child}}/{{name}}", "w").write("0 0 65536")
os.write(go[1], b"!")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def wait_until(true: Callable[[], object], *, seconds: float = 15) -> float:
    """Wait until a condition holds; return how long it took, and fail where it does not come."""
    start = time.monotonic()
    while not true():
        assert time.monotonic() - start < seconds, f"this did not come true within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - start


def processes_of(folder: Path) -> dict[int, str]:
    """Every live process but ourselves that names the folder in its command, or works in it."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            zombie = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            inside = str((entry / "cwd").readlink()).startswith(str(folder))
            if not zombie and (str(folder) in command or inside):
                found[int(entry.name)] = command
    return found


def server(folder: Path, name: ServerName) -> ServerStatus:
    """The status of one server."""
    return next(server for server in status(folder).servers if server.name is name)


def pid_of(folder: Path, name: ServerName) -> int:
    """The process of one server."""
    pid = server(folder, name).pid
    assert pid is not None
    return pid


def steward_of(folder: Path) -> int:
    """The steward's process."""
    pid = status(folder).steward_pid
    assert pid is not None
    return pid


def query(url: str, statement: str) -> object:
    """The first value of what a statement returns, on a connection of its own."""
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


@contextmanager
def cache_at(url: str) -> Generator[Any]:
    """A client of the cache. Any, because the driver's own types are incomplete."""
    driver: Any = valkey.Valkey
    cache = driver.from_url(url)
    try:
        yield cache
    finally:
        cache.close()


def serves(url: str) -> bool:
    """Whether the database answers a query."""
    try:
        return query(url, "SELECT 1") == 1
    except psycopg.Error:
        return False


def kill(pid: int) -> None:
    """kill -9."""
    os.kill(pid, signal.SIGKILL)


@contextmanager
def client_process(folder: Path, *, linger_seconds: float = 0.5) -> Generator[tuple[subprocess.Popen[str], str]]:
    """Another process that is attached, and the URL that it was given."""
    command = [sys.executable, "-c", CLIENT, str(folder), str(linger_seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@contextmanager
def public_folder() -> Generator[Path]:
    """A temporary folder that every user may pass through and write in, as /tmp is."""
    folder = Path(tempfile.mkdtemp(prefix="workhorse-test-"))
    folder.chmod(0o777)
    try:
        yield folder
    finally:
        rmtree(folder)


def run_as_nobody(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Python script as an unprivileged user with an empty environment.

    As root: as `nobody`, and because the interpreter may stand in a folder that only root may enter, in a mount
    namespace where an empty folder lies over that one, with nothing but the interpreter in it.
    """
    paths = os.pathsep.join(path for path in sys.path if path and Path(path).is_dir())
    command = ["env", "-i", "PATH=/usr/bin:/bin", f"PYTHONPATH={paths}", sys.executable, "-c", script, *arguments]
    with tempfile.TemporaryDirectory(prefix="workhorse-test-") as stash:
        if os.geteuid() == 0:
            python = Path(sys.base_prefix)
            closed = [above for above in reversed(python.parents) if not above.stat().st_mode & 0o001]
            steps = ["set -e", "cd /"]
            if closed:
                steps += [
                    f"mount --bind {python} {stash}",
                    f"mount -t tmpfs -o mode=755 none {closed[0]}",
                    f"mkdir -p {python}",
                    f"mount --bind {stash} {python}",
                ]
            steps.append(f"exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups {shlex.join(command)}")
            command = ["unshare", "--mount", "sh", "-c", "\n".join(steps)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def run_without_namespaces(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Python script as a root that may make no user namespaces, as in a hardened container. Only as root."""
    command = [sys.executable, "-c", CONFINED_ROOT, script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
