"""Stores to export into: a folder, and a bucket of a real server that speaks S3."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from workhorse.contracts.objects import ObjectStore
from workhorse.state.objects import open_store

MakeStore = Callable[[], ObjectStore]


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """moto's server, in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-c", f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"},
    )
    try:
        give_up = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < give_up, "moto's server did not start"
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(params=["folder", "s3"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    """Opens the same empty store, each time anew."""
    if request.param == "folder":
        return lambda: open_store(tmp_path / "store")
    boto3: Any = import_module("boto3")  # which has no types
    endpoint: str = request.getfixturevalue("s3_endpoint")
    keys = {"access_key_id": "test", "secret_access_key": "test"}
    bucket = f"exports-{token_hex(6)}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        **{f"aws_{name}": value for name, value in keys.items()},
    )
    client.create_bucket(Bucket=bucket)
    client.close()
    config = {"endpoint": endpoint, "region": "us-east-1", **keys}
    return lambda: open_store(f"s3://{bucket}/below/here", config=config)
