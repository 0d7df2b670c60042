"""`workhorse run`: serve an app.

The main process reads the settings and, where no database is named, sees to it that the embedded servers run, so that
what is wrong with either is said once and before any worker starts. Then it becomes the server's.
"""

import argparse
import contextlib
import importlib.util
from collections.abc import Generator
from pathlib import Path
from typing import Any

from workhorse.cli.target import split_target
from workhorse.errors import SettingsError
from workhorse.servers import Launch, serve
from workhorse.servers.launch import free_port, run_folder
from workhorse.settings import Settings, load_settings

__all__ = ["NAME", "SUMMARY", "configure", "run"]

NAME = "run"
SUMMARY = "Serve an app."


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments. What is left out comes from the settings."""
    parser.add_argument("target", metavar="MODULE:ATTRIBUTE", help="the service, such as `bank.app:service`")
    parser.add_argument("--host", help="address to listen on")
    parser.add_argument("--port", type=int, help="port to listen on; 0 chooses a free one")
    parser.add_argument("--workers", type=int, help="worker processes")
    parser.add_argument("--server", dest="kind", choices=("granian", "uvicorn", "hypercorn"), help="which server")
    parser.add_argument("--runtime", choices=("asyncio", "trio"), help="what the app waits on; trio with hypercorn")
    parser.add_argument("--reload", action="store_true", default=None, help="restart when a file changes (development)")


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop."""
    names = ("host", "port", "workers", "kind", "runtime", "reload")
    given: dict[str, Any] = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    settings = load_settings(server=given)
    check_target(arguments.target)
    server = settings.server
    with run_folder() as folder, embedded_servers(settings):
        launch = Launch(
            target=arguments.target,
            host=server.host,
            port=free_port(server.host, server.port),
            workers=server.workers,
            reload=server.reload,
            backlog=server.backlog,
            drain_seconds=server.drain_seconds,
            stop_timeout_seconds=server.stop_timeout_seconds,
            run_folder=folder,
            runtime=server.runtime,
        )
        return serve(server.kind, launch)


def check_target(target: str) -> None:
    """See that the module exists, as far as that shows without importing it, and put its folder on the path.

    Raises:
        SettingsError: the target is malformed, or there is no such module.
    """
    module, _ = split_target(target)
    top = module.partition(".")[0]
    if importlib.util.find_spec(top) is None:
        raise SettingsError(
            f"there is no module {top!r} in {Path.cwd()} or among what is installed; is this the right folder?"
        )


@contextlib.contextmanager
def embedded_servers(settings: Settings) -> Generator[None]:
    """Keep the embedded servers running while this process does, where no database is named."""
    if settings.database.url is not None:
        yield
        return
    from workhorse.embedded import attach  # noqa: PLC0415 - production has neither the wheels nor a use for them

    attachment = attach(
        settings.embedded_folder,
        cache=settings.cache.url is None,
        postgres_bin=settings.embedded.postgres_bin,
        linger_seconds=settings.embedded.linger_seconds,
        deadline_seconds=settings.embedded.start_timeout_seconds,
    )
    with attachment:
        yield
