"""Postgres: a cluster that is whole or not there, reachable only through its folder, and durable.

`initdb` runs in a folder of its own, which is renamed into place when it is done: a cluster that was cut off half-way
is never used. There is no TCP port and no password: the socket stands in a folder with mode 0700, and that is the
authentication. fsync, full_page_writes and synchronous_commit are left on: what was committed survives any kill.
"""

import contextlib
import os
import shutil
import signal
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import ClassVar, Final

from workhorse.embedded.binaries import find_postgres, postgres_major
from workhorse.embedded.credentials import Disguise, Identity, choose_identity, hand_over
from workhorse.embedded.folder import Folder, log_tail
from workhorse.embedded.keeper import ProcessEnded, Server, Steps, run_tool
from workhorse.embedded.state import DATABASE, ServerName
from workhorse.embedded.wire import ensure_database, postgres_socket
from workhorse.errors import EmbeddedServerError

__all__ = ["Postgres"]

BUILTIN_LOCALE_SINCE: Final = 17

# Written once, when the cluster is made, so that a person may change them.
SETTINGS: Final = """
# Set by Workhorse for a machine that one person works on; change them as you like.
max_connections = 100
shared_buffers = 128MB
jit = off
log_checkpoints = off
"""


class Postgres(Server):
    """The embedded Postgres of one folder."""

    name: ClassVar[ServerName] = ServerName.POSTGRES
    programs: ClassVar[frozenset[str]] = frozenset({"postgres"})
    # Fast shutdown: sessions are ended, a checkpoint is written, and the next start needs no recovery.
    dies_by: ClassVar[signal.Signals] = signal.SIGINT
    stop_signals: ClassVar[Sequence[tuple[signal.Signals, float]]] = (
        (signal.SIGINT, 20.0),
        (signal.SIGQUIT, 5.0),
        (signal.SIGKILL, 5.0),
    )

    def __init__(self, folder: Folder, sockets: Path) -> None:
        super().__init__(folder, sockets)
        self._bin_folder: Path | None = None
        self._programs: Path | None = None
        self._identity: Identity | None = None

    @property
    def socket(self) -> Path:
        """The folder that holds the socket: what libpq calls the host."""
        return self.sockets / "postgres"

    @property
    def pid_file(self) -> Path:
        """Where the postmaster writes its pid."""
        return self.data / "postmaster.pid"

    def identity(self) -> Identity:
        """Who it runs as: never root."""
        if self._identity is None:
            self._identity = choose_identity()
        return self._identity

    def binary_folder(self) -> str:
        """The folder of `postgres` and `initdb`."""
        return str(self._programs or "")

    def prepare(self) -> Steps:
        """Make the cluster where there is none, and check that these programs can read the one that is there."""
        # Read at each start, because whoever named a wrong folder names another one next.
        with contextlib.suppress(FileNotFoundError):
            chosen = self.folder.wanted(self.name).read_text(encoding="utf-8")
            self._bin_folder = Path(chosen) if chosen else None
        self._programs = find_postgres(self._bin_folder)
        identity = self.identity()
        if identity.disguise is Disguise.USER:
            self.folder.path.chmod(0o711)
            self.sockets.chmod(0o711)
            check_passage(self.folder.path, identity)
        self._remove_half_made()
        if not self.data.exists():
            yield from self._initdb(identity)
        else:
            check_version(self.data, (yield from self._major(identity)))
        hand_over(self.data, identity)
        self.socket.mkdir(mode=0o700, exist_ok=True)
        hand_over(self.socket, identity)
        # Nothing runs in the data folder any more (see `Keeper`), so these belong to nobody.
        for stale in (postgres_socket(self.socket), postgres_socket(self.socket).with_name(".s.PGSQL.5432.lock")):
            stale.unlink(missing_ok=True)

    def command(self) -> Sequence[str]:
        """What must hold whatever the cluster's own settings say."""
        must = (
            "listen_addresses=",
            f"unix_socket_directories={self.socket}",
            "unix_socket_permissions=0700",
            "port=5432",
            "logging_collector=off",
            "log_destination=stderr",
            "restart_after_crash=on",
        )
        return [f"{self._programs}/postgres", "-D", str(self.data), *(part for rule in must for part in ("-c", rule))]

    def ask(self) -> str | None:
        """The version, once it takes connections to the database of the app, which is made where it is missing."""
        greeting = ensure_database(self.socket, DATABASE)
        return greeting.version or "unknown" if greeting is not None and greeting.serves else None

    def _initdb(self, identity: Identity) -> Steps:
        major = yield from self._major(identity)
        half_made = self.data.with_name(f"postgres.new-{os.getpid()}")
        half_made.mkdir(mode=0o700)
        hand_over(half_made, identity)
        # C.UTF-8 sorts by code point, alike on every system, and needs no locale to be installed.
        locale = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8") if major >= BUILTIN_LOCALE_SINCE else ()
        command = [f"{self._programs}/initdb", "-D", str(half_made), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        command += [*(locale or ("--locale=C",)), "--no-instructions"]
        size = self.log.stat().st_size if self.log.exists() else 0
        code = yield from run_tool(command, identity=identity, log=self.log)
        if code != 0:
            tail = log_tail(self.log, since=size)
            self._remove_half_made()
            raise ProcessEnded(f"initdb could not make {self.data} (exit code {code}). Its log says:\n{tail}")
        with (half_made / "postgresql.conf").open("a", encoding="utf-8") as settings:
            settings.write(SETTINGS)
            settings.flush()
            os.fsync(settings.fileno())
        half_made.rename(self.data)
        parent = os.open(self.data.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)

    def _major(self, identity: Identity) -> Generator[float, None, int]:
        """The major version of the programs, by asking them."""
        answer = self.folder.path / "postgres.version"
        answer.unlink(missing_ok=True)
        yield from run_tool([f"{self._programs}/postgres", "--version"], identity=identity, log=answer)
        text = answer.read_text(encoding="utf-8", errors="replace")
        answer.unlink()
        return postgres_major(text)

    def _remove_half_made(self) -> None:
        for half_made in self.folder.path.glob("postgres.new-*"):
            shutil.rmtree(half_made, ignore_errors=True)


def check_version(data: Path, programs_major: int) -> None:
    """Refuse a cluster that these programs cannot read.

    Raises:
        EmbeddedServerError: it is of another major version, or it is damaged.
    """
    mend = "delete it with workhorse.embedded.reset (which loses its data), or put a backup of it there"
    try:
        text = (data / "PG_VERSION").read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        raise EmbeddedServerError(f"{data} is not a Postgres cluster, it has no file PG_VERSION: {mend}") from None
    if not text.isdigit():
        raise EmbeddedServerError(f"{data / 'PG_VERSION'} is damaged, it reads {text[:20]!r} and not a number: {mend}")
    if int(text) != programs_major:
        raise EmbeddedServerError(
            f"{data} was made by Postgres {text}, and the programs here are Postgres {programs_major}: name the bin "
            f"folder of a Postgres {text} (postgres_bin) and move the data with pg_dump, or {mend}"
        )


def check_passage(folder: Path, identity: Identity) -> None:
    """Refuse a folder that the other user cannot reach.

    Raises:
        EmbeddedServerError: a folder above the data does not let that user pass.
    """
    for above in (folder, *folder.parents):
        found = above.stat()
        if not found.st_mode & 0o001 and found.st_uid != identity.uid:
            raise EmbeddedServerError(
                f"Postgres cannot run as root, and the user {identity.name} cannot pass through {above}: "
                f"put the servers into a folder that everybody may pass (chmod o+x {above}), or run as a normal user"
            )
