"""What a client may hold of a server: how many connections, how long, and how much of its memory.

The main process reads the limits from the settings and makes room for them (open files are what connections run out of
first). The workers get them through the environment, as they get the rest of their run.
"""

import resource
from dataclasses import dataclass
from typing import Final

from workhorse.errors import StartupError
from workhorse.service.supervision import say
from workhorse.settings import load_settings
from workhorse.settings.records import ServerSettings

__all__ = ["DEFAULT_CONNECTIONS", "OWN_FILES", "ConnectionLimits", "configured_limits", "make_room", "prepare_limits"]

DEFAULT_CONNECTIONS: Final = 16_384
LEAST_CONNECTIONS: Final = 64
OWN_FILES: Final = 512
"""Open files of a worker beside its clients': the database's and the cache's connections, the log, epoll, the app's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """The limits of one worker process. `ServerSettings` has a sentence on each."""

    max_connections: int = DEFAULT_CONNECTIONS
    head_timeout_seconds: float = 15
    keep_alive_seconds: int = 75
    max_head_bytes: int = 64 * 1024
    reply_pause_seconds: float = 30
    reply_bytes_per_second: int = 500


def configured_limits() -> ConnectionLimits:
    """What this process's own settings ask for, with room made for it.

    Raises:
        SettingsError: a setting is unknown or malformed.
        StartupError: so many connections cannot be open here.
    """
    return prepare_limits(load_settings().server)


def prepare_limits(settings: ServerSettings) -> ConnectionLimits:
    """The limits that `settings` ask for, with room made for them in this process and those that it starts.

    Raises:
        StartupError: so many connections cannot be open here.
    """
    return ConnectionLimits(
        max_connections=make_room(settings.max_connections),
        head_timeout_seconds=settings.head_timeout_seconds,
        keep_alive_seconds=settings.keep_alive_seconds,
        max_head_bytes=settings.max_head_bytes,
        reply_pause_seconds=settings.reply_pause_seconds,
        reply_bytes_per_second=settings.reply_bytes_per_second,
    )


def make_room(connections: int | None) -> int:
    """Raise the limit on open files as far as `connections` need, and return how many connections there is room for.

    None asks for the default, and takes what there is, saying so.

    Raises:
        StartupError: the limit cannot be raised so far.
    """
    needed = (DEFAULT_CONNECTIONS if connections is None else connections) + OWN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    have = _raise_to(needed, soft, hard)
    if have >= needed:
        return needed - OWN_FILES
    if connections is not None or have - OWN_FILES < LEAST_CONNECTIONS:
        raise StartupError(
            f"{needed - OWN_FILES} connections need {needed} open files ({OWN_FILES} of them the worker's own), and the"
            f" system allows {have}: raise the hard limit (ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile= of a"
            " container), or lower server.max_connections"
        )
    say(
        f"workhorse: {have - OWN_FILES} connections at most per worker, because the system allows {have} open files;"
        " raise that, or set server.max_connections"
    )
    return have - OWN_FILES


def _raise_to(needed: int, soft: int, hard: int) -> int:
    """Raise the soft limit to `needed`, or to the hard limit if that is less. Returns the limit that holds then."""
    infinite = resource.RLIM_INFINITY
    if soft == infinite or soft >= needed:
        return max(needed, soft)
    wanted = needed if hard == infinite else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # some systems allow less than their hard limit says
        return soft
    return wanted
