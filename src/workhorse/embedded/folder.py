"""The folder of one set of servers: which file means what, and whether the folder is ours to write in.

    embedded.marker       made before anything else: what has it is ours, and only that is ever deleted from
    .gitignore            `*`
    clients.lock          held shared by each attached process
    steward.lock          held alone by the steward
    start.lock            held alone by whoever starts or stops a steward
    wanted-postgres, wanted-valkey   the servers that the clients asked for
    stopped               `stop` was called: clients do not start the steward again
    state.json            what the steward says of its servers
    wake                  a named pipe: one byte makes the steward look round at once
    sockets               the path of the folder with the sockets, where `run` would be too long a path
    run/                  the sockets
    postgres/, valkey/    the data
    *.log, *.log.1        what the servers and the steward wrote, bounded

Lock files are never deleted, by `reset` neither: two processes that hold two files of one name would both be alone.
"""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workhorse.embedded.state import ServerName
from workhorse.errors import EmbeddedServerError

__all__ = ["Folder", "log_tail"]

# The shortest limit of the systems that we run on: macOS has 104 bytes with the closing zero, Linux 108.
SOCKET_PATH_BYTES: Final = 103
LONGEST_SOCKET_NAME: Final = "/postgres/.s.PGSQL.5432"
# libpq reads commas in a host as a list, Postgres quotes and commas in the list of its socket folders.
AWKWARD_CHARACTERS: Final = frozenset(",\"'\\\n")
LOG_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Folder:
    """The paths in the folder of one set of servers. `path` is absolute and free of symbolic links."""

    path: Path

    @classmethod
    def at(cls, path: Path) -> "Folder":
        """The folder at `path`, which need not exist."""
        return cls(Path(path).absolute().resolve())

    @property
    def marker(self) -> Path:
        """What says that the folder is ours."""
        return self.path / "embedded.marker"

    @property
    def clients_lock(self) -> Path:
        """Held shared by each attached process."""
        return self.path / "clients.lock"

    @property
    def steward_lock(self) -> Path:
        """Held alone by the steward."""
        return self.path / "steward.lock"

    @property
    def start_lock(self) -> Path:
        """Held alone by whoever starts or stops a steward."""
        return self.path / "start.lock"

    @property
    def stopped(self) -> Path:
        """Present after `stop`, until somebody attaches anew."""
        return self.path / "stopped"

    @property
    def state(self) -> Path:
        """What the steward says of its servers."""
        return self.path / "state.json"

    @property
    def wake(self) -> Path:
        """The named pipe that makes the steward look round."""
        return self.path / "wake"

    @property
    def steward_log(self) -> Path:
        """What the steward wrote."""
        return self.path / "steward.log"

    def wanted(self, server: ServerName) -> Path:
        """Present while clients want `server`; its text is the bin folder to start it from, or empty."""
        return self.path / f"wanted-{server}"

    def data(self, server: ServerName) -> Path:
        """Where `server` keeps its data."""
        return self.path / str(server)

    def log(self, server: ServerName) -> Path:
        """What `server` wrote."""
        return self.path / f"{server}.log"

    def is_ours(self) -> bool:
        """Whether an earlier `prepare` made this folder."""
        return self.marker.is_file()

    def prepare(self) -> None:
        """Make the folder, or check that it is ours.

        Raises:
            EmbeddedServerError: it cannot be made, it belongs to another user, or it holds something else.
        """
        try:
            self._prepare()
        except OSError as error:
            raise EmbeddedServerError(
                f"the folder of the embedded servers, {self.path}, cannot be used: {error.strerror or error}; "
                "make it writable, or name another one"
            ) from error

    def _prepare(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = self.path.stat().st_uid
        if owner != os.geteuid():
            raise EmbeddedServerError(
                f"{self.path} belongs to the user with id {owner}, and this process runs as {os.geteuid()}: "
                "run as its owner, or name another folder"
            )
        if self.is_ours():
            return
        # The marker is the first file of all, so whoever sees another file of ours sees the marker too.
        if any(self.path.iterdir()) and not self.is_ours():
            raise EmbeddedServerError(
                f"{self.path} is neither empty nor a folder of embedded servers: name another one, or an empty one"
            )
        self.marker.touch(mode=0o600)
        self.path.chmod(0o700)
        (self.path / ".gitignore").write_text("*\n", encoding="ascii")

    def socket_folder(self) -> Path:
        """Make and return the private folder for the sockets: `run`, or a short one where its path is too long.

        The choice is written down, because a later steward may see another environment, and the clients of this
        one keep their URLs.

        Raises:
            EmbeddedServerError: no candidate can be used; the message says why.
        """
        record = self.path / "sockets"
        with contextlib.suppress(OSError, EmbeddedServerError):
            chosen = Path(record.read_text(encoding="utf-8"))
            make_private(chosen.parent)
            return make_private(chosen)
        own = self.path / "run"
        if socket_path_fits(own):
            return make_private(own)
        import hashlib  # noqa: PLC0415 - it loads OpenSSL, which few folders need

        key = hashlib.blake2b(os.fsencode(self.path), digest_size=8).hexdigest()
        faults: list[str] = []
        for base in short_bases():
            chosen = base / f"workhorse-{os.geteuid()}" / key
            if not socket_path_fits(chosen):
                faults.append(f"{base}: too long")
                continue
            try:
                make_private(chosen.parent)
                make_private(chosen)
                record.write_text(str(chosen), encoding="utf-8")
            except (OSError, EmbeddedServerError) as error:
                faults.append(f"{base}: {error}")
                continue
            return chosen
        raise EmbeddedServerError(
            f"{self.path} is too long a path for Unix sockets, and no short folder can be used ({'; '.join(faults)}): "
            "name a folder with a shorter path"
        )

    def erase(self) -> tuple[Path, ...]:
        """Delete data, logs and sockets; the marker and the locks stay. Returns what was deleted.

        Raises:
            OSError: something could not be deleted.
        """
        doomed = [path for path in sorted(self.path.iterdir()) if not _stays(path)]
        with contextlib.suppress(OSError):
            elsewhere = Path((self.path / "sockets").read_text(encoding="utf-8"))
            if elsewhere.is_dir() and elsewhere.stat().st_uid == os.geteuid():
                doomed.append(elsewhere)
        for path in doomed:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        return tuple(doomed)

    def logs(self) -> Iterator[Path]:
        """Every log that grows."""
        yield self.steward_log
        yield from (self.log(server) for server in ServerName)

    def bound_logs(self) -> None:
        """Move each log that has grown past its bound aside, so that no log takes more than twice that.

        The servers append (O_APPEND), so they go on at the new end. Lines written during the copy may be lost.
        """
        for log in self.logs():
            with contextlib.suppress(FileNotFoundError):
                if log.stat().st_size > LOG_BYTES:
                    shutil.copyfile(log, log.with_suffix(".log.1"))
                    os.truncate(log, 0)


def _stays(path: Path) -> bool:
    return path.suffix in {".lock", ".marker"} or path.name in {".gitignore", "stopped"}


def socket_path_fits(folder: Path) -> bool:
    """Whether sockets in `folder` have paths that the kernel, libpq and Postgres take."""
    text = str(folder)
    return len(os.fsencode(text + LONGEST_SOCKET_NAME)) <= SOCKET_PATH_BYTES and AWKWARD_CHARACTERS.isdisjoint(text)


def short_bases() -> Iterator[Path]:
    """Where a short folder for sockets may be made, best first."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir():
        yield Path(runtime)
    yield Path(tempfile.gettempdir())
    yield Path("/tmp")  # noqa: S108 - what is made there is private, and its owner is checked


def make_private(folder: Path) -> Path:
    """Make `folder` with mode 0700, or check that what is there is ours and that nobody else may write in it.

    Raises:
        EmbeddedServerError: something else is there.
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise EmbeddedServerError(f"{folder} is not a folder that only this user may write in: delete it")
    return folder


def log_tail(log: Path, *, since: int = 0, lines: int = 15) -> str:
    """The last lines of `log`, of what was written after its byte `since`. Empty where there is nothing."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(since if since <= end else 0, end - 8192))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])
    except OSError:
        return ""
