"""A query into one file of the local disk, in any format, with flat memory."""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from workhorse.analytics.exports.manifest import ExportedFile
from workhorse.analytics.tables import Format, Source
from workhorse.analytics.tables.encoders import Formulas, Sink, make_encoder
from workhorse.analytics.tables.formats import Coding

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FileWriter", "Progress", "write_file"]

Progress = Callable[[int], object]
"""Told after each batch how many rows there are."""


async def write_file(
    source: Source,
    path: Path,
    format_: Format,
    *,
    formulas: Formulas = "quote",
    progress: Progress | None = None,
) -> ExportedFile:
    """Write all rows into a file, which is there when it is whole.

    Args:
        source: such as `tables.select(...)`.
        path: of the file; one that is there is replaced.
        format_: as tables are answered.
        formulas: of CSV; see `TableReply`.
        progress: see `Progress`.

    Raises:
        OSError: the file cannot be written.
        Exception: as `Selection.open`.
    """
    waiting = path.with_name(f".{token_hex(8)}.part")
    try:
        async with source.open(textual=format_.textual) as frames:
            one = await asyncio.to_thread(FileWriter, waiting, frames.schema, format_, formulas)
            try:
                async for batch in frames:
                    await asyncio.to_thread(one.write, batch)
                    if progress is not None:
                        progress(one.rows)
                await asyncio.to_thread(one.end)
            finally:
                one.close()
        await asyncio.to_thread(waiting.replace, path)
    finally:
        with suppress(OSError):
            waiting.unlink(missing_ok=True)
    return ExportedFile(path.name, one.rows, one.bytes, one.digest.hexdigest())


class FileWriter:
    """One file, as it is written: what is called in threads."""

    def __init__(self, path: Path, schema: "pa.Schema", format_: Format, formulas: Formulas = "keep") -> None:
        self._file = path.open("wb")
        self._sink = Sink()
        self._encoder = make_encoder(format_, Coding.IDENTITY, schema, self._sink, formulas=formulas)
        self.digest: Any = hashlib.sha256()
        self.rows = self.bytes = 0

    def write(self, batch: "pa.RecordBatch") -> None:
        """Write rows."""
        self._encoder.write(batch)
        self.rows += batch.num_rows
        self._empty()

    def end(self) -> None:
        """Write the end."""
        self._encoder.end(self.rows)
        self._empty()

    def close(self) -> None:
        """Close the file, as it is."""
        self._file.close()

    def _empty(self) -> None:
        data = self._sink.take()
        self.digest.update(data)
        self.bytes += self._file.write(data)
