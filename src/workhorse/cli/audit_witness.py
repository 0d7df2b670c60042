"""`workhorse audit witness FOLDER`: serve a witness for the logs of others, or admit a log to it.

It is served by one process of the server that serves everything else; the environment tells that process its folder.
"""

import os
import sys
from pathlib import Path
from typing import Final

from workhorse.asgi import Message, Receive, Scope, Send
from workhorse.audit.faults import AuditFault
from workhorse.audit.heads import HeadFolder
from workhorse.audit.keys import Verifier
from workhorse.audit.serving import WitnessApp
from workhorse.errors import SettingsError
from workhorse.servers import Launch, serve
from workhorse.servers.launch import free_port, run_folder
from workhorse.service.supervision import find_run_folder, tie_to_parent

__all__ = ["admit", "app", "serve_witness"]

FOLDER: Final = "_WORKHORSE_WITNESS"
STOP_SECONDS: Final = 20


def admit(folder: Path, keys: list[str]) -> int:
    """Begin to witness a log."""
    heads = HeadFolder(folder)
    with heads.held():
        try:
            one = heads.admit([Verifier.parse(text) for text in keys])
        except AuditFault as error:
            raise SettingsError(str(error)) from error
    head = one.head
    sys.stdout.write(f"{one.origin}: {len(one.keys)} keys, signed up to {0 if head is None else head.size} entries\n")
    return 0


def serve_witness(folder: Path, *, host: str, port: int) -> int:
    """Serve until told to stop, in one process."""
    heads = HeadFolder(folder)
    with heads.held():
        # What is wrong is said here, once, and not by the server's process.
        signer = heads.signer()
        heads.read()
    sys.stdout.write(f"{signer.verifier}\n")
    sys.stdout.flush()
    os.environ[FOLDER] = str(folder.resolve())
    with run_folder() as run:
        launch = Launch(
            target=f"{__name__}:app",
            host=host,
            port=free_port(host, port),
            workers=1,
            reload=False,
            backlog=1024,
            drain_seconds=0,
            stop_timeout_seconds=STOP_SECONDS,
            run_folder=run,
        )
        return serve("granian", launch)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The witness of this process's folder, from the start of its lifespan on."""
    if scope["type"] != "lifespan":
        await scope["state"]["witness"](scope, receive, send)
        return
    tie_to_parent()
    witness = scope["state"]["witness"] = WitnessApp(HeadFolder(Path(os.environ[FOLDER])))
    run = find_run_folder()

    async def tell(message: Message) -> None:
        if run is not None and message["type"] == "lifespan.startup.complete":
            (run / "started").touch()
        await send(message)

    await witness(scope, receive, tell)
