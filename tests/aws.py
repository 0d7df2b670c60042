"""A real server that speaks AWS' protocols, and the environment in which AWS' own tools find it."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from moto.server import ThreadedMotoServer

__all__ = ["aws_server", "point_at"]


@contextmanager
def aws_server() -> Iterator[str]:
    """The server's URL during the block."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def point_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have AWS' tools of this process ask the server, with credentials that it takes."""
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
