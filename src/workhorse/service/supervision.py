"""What a worker process knows of the run that it belongs to.

`workhorse run` tells its workers through two variables of the environment, whose names begin with an underscore
because they are no settings: the folder that the processes of the run share, and who their parent is.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Final

__all__ = ["PARENT", "RUN_FOLDER", "find_run_folder", "say", "tie_to_parent"]

RUN_FOLDER: Final = "_WORKHORSE_RUN"
PARENT: Final = "_WORKHORSE_PARENT"
PR_SET_PDEATHSIG: Final = 1
STUCK_SECONDS: Final = 30


def find_run_folder() -> Path | None:
    """The folder that this run's processes share; None for a process that stands alone."""
    folder = os.environ.get(RUN_FOLDER)
    return Path(folder) if folder else None


def tie_to_parent() -> None:
    """End this worker when the process that started the run is gone.

    A main process that is killed with SIGKILL cannot stop its workers; they would keep the port and go on serving
    beside the next run. Linux delivers a signal, and one that nothing can hold up: a worker of granian that stops
    under load may wait for ever with the interpreter's lock held, so that no Python code gets a turn. Elsewhere a
    thread looks.
    """
    parent = int(os.environ.get(PARENT, "0"))
    if not parent or parent == os.getpid():
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the signal was asked for
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Thread(target=_watch_parent, args=(parent,), name="parent watch", daemon=True).start()


def _watch_parent(parent: int) -> None:
    """The net under the signal, on other systems."""
    while os.getppid() == parent:
        time.sleep(1)
    # The kernel's own: by its default action it ends a worker that is too stuck to heed SIGTERM, or to run this thread.
    signal.alarm(STUCK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def say(message: str) -> None:
    """Tell the person at the terminal, beside the log: a start that fails may have no log yet."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()
