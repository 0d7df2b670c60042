"""Be there, so that the servers run, and bring their steward back when it is killed.

An attached process holds the clients' lock together with all others; the kernel lets it go when the process ends,
however it ends. Whoever finds that nobody holds the steward's lock starts a steward, one at a time. Nothing here
depends on a pid.

A daemon thread looks every half second whether a steward is there. That is what makes the kill of a steward, or of the
client that started it, heal while anybody is attached.
"""

import contextlib
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Final

from workhorse.embedded.folder import Folder, log_tail
from workhorse.embedded.locks import FileLock, is_held
from workhorse.errors import EmbeddedServerError

__all__ = ["Presence", "ring", "start_steward"]

WATCH_SECONDS: Final = 0.5
LONGEST_WATCH_SECONDS: Final = 10.0
SPAWN_SECONDS: Final = 30.0
KEPT_VARIABLES: Final = (
    *("PATH", "HOME", "TMPDIR", "XDG_RUNTIME_DIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
    *("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"),
)


class Presence:
    """This process's share of the clients' lock, and the thread that starts a steward where there is none."""

    def __init__(self, folder: Folder, linger_seconds: float) -> None:
        self.folder = folder
        self.linger_seconds = linger_seconds
        self.lock = FileLock(folder.clients_lock)
        self.closed = False
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self) -> None:
        """Start the thread, here and in each child that this process forks."""
        self._start_thread()
        itself = weakref.ref(self)

        def after_fork() -> None:
            presence = itself()
            if presence is not None and not presence.closed:
                presence.take_own_share()

        os.register_at_fork(after_in_child=after_fork)

    def take_own_share(self) -> None:
        """In a forked child: hold the lock by an own descriptor, and watch by an own thread.

        The inherited descriptor is the parent's lock: kept, it would keep the servers for a parent that is gone; and
        unlocked here, it would be unlocked there.
        """
        inherited = self.lock
        try:
            self.lock = FileLock(self.folder.clients_lock, create=False)
            self.lock.try_shared()  # together with the parent's, which cannot be gone yet
        except OSError:
            self.closed = True
        inherited.abandon()
        self._end = threading.Event()
        if not self.closed:
            self._start_thread()

    def close(self) -> None:
        """Let the lock go and end the thread."""
        if self.closed:
            return
        self.closed = True
        self._end.set()
        self.lock.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(WATCH_SECONDS)

    def _start_thread(self) -> None:
        self._thread = threading.Thread(target=self._watch, name="workhorse-embedded-watch", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        pause = WATCH_SECONDS
        while not self._end.wait(pause):
            if not self.folder.is_ours():
                return  # the folder was deleted, and with it what there was to watch
            try:
                started = start_steward(self.folder, linger_seconds=self.linger_seconds, even_if_stopped=False)
            except (EmbeddedServerError, OSError):
                started = True  # in vain: the reason is in steward.log, and this thread has nobody to tell
            # A steward that ends again and again is started ever more seldom.
            pause = min(pause * 2, LONGEST_WATCH_SECONDS) if started else WATCH_SECONDS


def start_steward(folder: Folder, *, linger_seconds: float, even_if_stopped: bool) -> bool:
    """Start a steward where none is, unless somebody else is about to. Returns whether this call started one.

    Args:
        folder: whose servers it keeps.
        linger_seconds: how long it outlives its last client.
        even_if_stopped: whether to start one after `stop`, and so to undo it.

    Raises:
        EmbeddedServerError: it could not be started; the message has the end of its log.
        OSError: the folder cannot be used.
    """
    if is_held(folder.steward_lock):
        return False
    with FileLock(folder.start_lock) as turn:
        if not turn.try_exclusive() or is_held(folder.steward_lock):
            return False
        if folder.stopped.exists():
            if not even_if_stopped:
                return False
            folder.stopped.unlink(missing_ok=True)
        _spawn(folder, linger_seconds)
        return True


def ring(folder: Folder) -> None:
    """Make the steward look round at once, where there is one."""
    with contextlib.suppress(OSError):
        bell = os.open(folder.wake, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(bell, b"!")
        finally:
            os.close(bell)


def _spawn(folder: Folder, linger_seconds: float) -> None:
    """Start a steward and return once it holds its lock."""
    start = folder.steward_log.stat().st_size if folder.steward_log.exists() else 0
    with folder.steward_log.open("ab") as log:
        try:
            # -P: a file in the working directory must not stand in for a module of the standard library.
            done = subprocess.run(  # noqa: S603 - our own interpreter, and no shell
                [sys.executable, "-P", "-m", "workhorse.embedded.steward", str(folder.path), str(linger_seconds)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder.path,
                env=_environment(),
                start_new_session=True,
                timeout=SPAWN_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EmbeddedServerError(f"the steward of {folder.path} could not be started: {error}") from error
    # One that was killed is no reason to give up: the caller sees that there is none, and starts the next.
    if done.returncode > 0 and not is_held(folder.steward_lock):
        raise EmbeddedServerError(
            f"the steward of {folder.path} ended at once (exit code {done.returncode}). Its log says:\n"
            f"{log_tail(folder.steward_log, since=start)}"
        )


def _environment() -> dict[str, str]:
    """What a process needs that outlives us: not our secrets. It must find this very package."""
    environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    root = Path(__file__).parents[2]
    paths = [str(Path(path).absolute()) for path in environment.pop("PYTHONPATH", "").split(os.pathsep) if path]
    if root.name not in {"site-packages", "dist-packages"}:
        paths.append(str(root))
    return environment | ({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})
