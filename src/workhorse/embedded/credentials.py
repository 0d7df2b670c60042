"""Start a server as a user that it accepts, tied to the life of its steward.

Postgres refuses to run as root, and containers run everything as root. Two ways round it, in this order:

1. a user namespace that maps 65534 to root: Postgres sees another user than root, while its files stay root's, so
   nothing has to be handed over and the server has no privilege outside its own files;
2. where the kernel or the container forbids that: setuid to an unprivileged user of /etc/passwd, to whom the data
   then belongs. Every folder above the data must let that user pass.

The tie is PR_SET_PDEATHSIG (Linux): the kernel sends the server a signal when the steward ends, however it ends. It is
set after the change of credentials, which would clear it; it survives execve; and it follows the *thread* that
forked, so the steward starts servers from its only thread. A steward that died before the tie was set is found
by comparing the parent's pid. macOS has no such tie: there the next steward stops what it finds.
"""

import contextlib
import ctypes
import os
import pwd
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from workhorse.errors import EmbeddedServerError

__all__ = ["Disguise", "Identity", "choose_identity", "hand_over", "launch"]

CLONE_NEWUSER: Final = 0x10000000
PR_SET_PDEATHSIG: Final = 1
UNPRIVILEGED_USERS: Final = ("nobody", "postgres", "daemon")
NAMESPACE_ID: Final = 65534
KEPT_VARIABLES: Final = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
CANNOT_EXECUTE: Final = 127


class Disguise(StrEnum):
    """How a server comes to run as somebody else than root."""

    NONE = "none"
    """We are not root: nothing is needed."""
    NAMESPACE = "namespace"
    """In a user namespace of its own; its files are ours."""
    USER = "user"
    """As another user; its files are that user's."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a server runs as. `uid` and `gid` own its files."""

    disguise: Disguise
    uid: int
    gid: int
    name: str


def choose_identity() -> Identity:
    """Who Postgres can run as, here and now.

    Raises:
        EmbeddedServerError: we are root, user namespaces are forbidden, and there is no unprivileged user.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid != 0:
        return Identity(Disguise.NONE, uid, gid, "this user")
    if _namespace_works():
        return Identity(Disguise.NAMESPACE, uid, gid, "root in a user namespace")
    for name in UNPRIVILEGED_USERS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            if entry.pw_uid != 0:
                return Identity(Disguise.USER, entry.pw_uid, entry.pw_gid, name)
    raise EmbeddedServerError(
        "Postgres does not run as root, user namespaces are forbidden here, and /etc/passwd has none of "
        f"{', '.join(UNPRIVILEGED_USERS)}: run as a normal user, or use a running Postgres (DATABASE_URL)"
    )


def hand_over(path: Path, identity: Identity) -> None:
    """Make `path` and all below it belong to `identity`, where it does not yet.

    Raises:
        OSError: the owner cannot be changed.
    """
    if os.geteuid() != 0 or path.lstat().st_uid == identity.uid:
        return
    for folder, _, files in os.walk(path, topdown=False):
        for file in files:
            os.chown(Path(folder, file), identity.uid, identity.gid, follow_symlinks=False)
        os.chown(folder, identity.uid, identity.gid, follow_symlinks=False)


def launch(command: Sequence[str], *, identity: Identity, log: Path, dies_by: signal.Signals) -> int:
    """Start `command` in a session of its own, its output appended to `log`, and return its pid.

    Args:
        command: the program's absolute path, and its arguments.
        identity: who it runs as.
        log: the file that its standard output and error are appended to.
        dies_by: the signal that it gets when this thread ends.

    Raises:
        OSError: the log cannot be opened, or the process cannot be made.
    """
    environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    environment |= {"LC_ALL": "C", "TZ": "UTC"}
    library = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # A signal that reached the child while it still had the steward's handlers would be lost.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        # A fork of the steward, and not a small interpreter in between: it has one thread and a few megabytes, and
        # this saves the start-up of an interpreter for each server.
        child = os.fork()
        if child == 0:
            _become(command, environment, identity, Tie(library, parent, dies_by), output)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(output)
    return child


class Tie(NamedTuple):
    """What ties a server to its steward."""

    library: ctypes.CDLL
    parent: int
    dies_by: signal.Signals

    def bind(self) -> None:
        """Ask the kernel for the signal; end at once where the steward has gone already."""
        if sys.platform == "linux":
            self.library.prctl(PR_SET_PDEATHSIG, int(self.dies_by), 0, 0, 0)
        if os.getppid() != self.parent:
            os._exit(CANNOT_EXECUTE)


def _become(
    command: Sequence[str], environment: Mapping[str, str], identity: Identity, tie: Tie, output: int
) -> NoReturn:
    """In the forked child: turn into `command`. Never returns into the steward's code."""
    try:
        os.setsid()
        os.umask(0o077)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        # Python ignores SIGPIPE and SIGXFSZ, and what is ignored stays ignored in the program that is executed.
        for ours in (
            *(signal.SIGPIPE, signal.SIGXFSZ),
            *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD),
        ):
            signal.signal(ours, signal.SIG_DFL)
        if identity.disguise is Disguise.NAMESPACE:
            _enter_namespace(tie.library)
        elif identity.disguise is Disguise.USER:
            os.setgroups([])
            os.setgid(identity.gid)
            os.setuid(identity.uid)
        tie.bind()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.chdir("/")
        os.execve(command[0], list(command), environment)  # noqa: S606 - there is no shell to pass through
    except BaseException as error:  # noqa: BLE001 - whatever it is, this must not run on as a second steward
        os.write(2, f"workhorse: {command[0]} cannot be run as {identity.name}: {error}\n".encode())
    os._exit(CANNOT_EXECUTE)


def _enter_namespace(library: ctypes.CDLL) -> None:
    if library.unshare(CLONE_NEWUSER) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"unshare: {os.strerror(error)}")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{NAMESPACE_ID} 0 1"),
        ("gid_map", f"{NAMESPACE_ID} 0 1"),
    ):
        Path("/proc/self", name).write_text(text, encoding="ascii")


def _namespace_works() -> bool:
    """Try it in a process that does nothing else."""
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None, use_errno=True)
    child = os.fork()
    if child == 0:
        try:
            _enter_namespace(library)
        except BaseException:  # noqa: BLE001 - as above
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
