"""The contestants as servers load them.

GUARD_CREDENTIALS=credentials.json GUARD_CONTESTANT=fastapi+guard uvicorn --factory benchmarks.guard.served:make
"""

import os
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.guard.contestants import ALL, Stage
from benchmarks.guard.traffic import Credentials
from workhorse.asgi import ASGIApp, Receive, Reply, Scope, Send, send_reply

__all__ = ["CONTESTANT", "CREDENTIALS", "READY", "make"]

CREDENTIALS: Final = "GUARD_CREDENTIALS"
CONTESTANT: Final = "GUARD_CONTESTANT"
READY: Final = "/ready"


def make() -> ASGIApp:
    """The contestant that the environment names.

    Whoever waits for it to be ready sends neither its host name nor a token, so that request passes it by. The layer
    for it is around all contestants alike.
    """
    credentials = msgspec.json.decode(Path(os.environ[CREDENTIALS]).read_bytes(), type=Credentials)
    built = ALL[os.environ[CONTESTANT]].build(Stage(credentials, serving=True))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == READY:
            await send_reply(Reply(status=200, headers=(), body=b"ready"), send)
        else:
            await built.app(scope, receive, send)

    return app
