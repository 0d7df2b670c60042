"""Starts the nest, with or without callgrind around it, and gathers what it says."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.guard import callgrind
from benchmarks.guard.messages import Figure, Order
from benchmarks.processes import MeasurementError, stop_session

__all__ = ["hatch"]

NEST_SECONDS: Final = 1_200.0
LINE_BYTES: Final = 64 * 1024


async def hatch(order: Order, folder: Path) -> list[Figure]:
    """Carry out `order` in a nest of its own, which may leave files in `folder`.

    Raises:
        MeasurementError: the nest ended before it had said all, or took longer than twenty minutes.
    """
    command: tuple[str, ...] = (sys.executable, "-m", "benchmarks.guard.nest")
    if order.mode != "time":
        command = (*callgrind.command(folder, functions_of_python=order.mode == "profile"), *command)
        order = msgspec.structs.replace(order, counts=str(folder))
    errors = folder / "errors"
    with errors.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            # Sets and dicts of strings are then laid out alike in each run.
            env={**os.environ, "PYTHONHASHSEED": "0"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=output,
            limit=LINE_BYTES,
            start_new_session=True,
        )
    try:
        async with asyncio.timeout(NEST_SECONDS):
            figures = await _converse(process, order)
            code = await process.wait()
    except TimeoutError:
        raise MeasurementError("the nest did not end in time") from None
    finally:
        await stop_session(process)
    if code != 0:
        tail = errors.read_bytes()[-2000:].decode("utf-8", "replace").strip()
        raise MeasurementError(f"the nest ended with code {code}: {tail}")
    return figures


async def _converse(process: asyncio.subprocess.Process, order: Order) -> list[Figure]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(msgspec.json.encode(order))
    process.stdin.close()
    return [msgspec.json.decode(line, type=Figure) async for line in process.stdout]
