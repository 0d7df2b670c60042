"""The processes that listen: granian by default, uvicorn and hypercorn as extras. One file a server."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Final

from workhorse.errors import StartupError
from workhorse.servers.launch import Launch
from workhorse.servers.worker import assigned

__all__ = ["Launch", "serve"]

KINDS: Final = ("granian", "uvicorn", "hypercorn")


def serve(kind: str, launch: Launch) -> int:
    """Run the server `kind` until it is told to stop. Returns the exit code.

    Raises:
        StartupError: the server is not installed, cannot run the app on Trio, or the port is taken.
    """
    if launch.runtime == "trio":
        check_trio(kind)
    run = _load(kind)
    with assigned(launch):
        return run(launch)


def check_trio(kind: str) -> None:
    """See that the server can run apps on Trio.

    Raises:
        StartupError: it cannot, or Trio is not installed.
    """
    if kind != "hypercorn":
        raise StartupError(f"{kind} runs apps on asyncio only; for Trio take --server hypercorn")
    if find_spec("trio") is None:
        raise StartupError("Trio is not installed: pip install 'workhorse[trio]'")


def _load(kind: str) -> Callable[[Launch], int]:
    """Import only the one server that runs."""
    try:
        match kind:
            case "granian":
                from workhorse.servers.granian import run  # noqa: PLC0415
            case "uvicorn":
                from workhorse.servers.uvicorn import run  # noqa: PLC0415
            case "hypercorn":
                from workhorse.servers.hypercorn import run  # noqa: PLC0415
            case _:
                raise StartupError(f"there is no server {kind!r}; choose one of {', '.join(KINDS)}")
    except ModuleNotFoundError as error:
        if error.name not in {kind, "httptools"}:
            raise
        raise StartupError(f"the server {kind} is not installed: pip install 'workhorse[{kind}]'") from error
    return run
