"""The files of one partition, written to the local disk one at a time, and uploaded when they are large enough."""

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from workhorse.analytics.exports.manifest import ExportedFile
from workhorse.analytics.tables.encoders import Encoder, Sink, make_encoder
from workhorse.analytics.tables.formats import Coding, Format
from workhorse.contracts.objects import ObjectStore

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Spool"]

MAX_FILES: Final = 100_000


class Spool:
    """Writes rows into files of about `part_bytes`.

    Args:
        store: where whole files go.
        schema: of the rows.
        stem: of the files' names, with the folder; a number and `.parquet` are added. Nobody else uses it.
        folder: on the local disk, for one file at a time.
        part_bytes: of a file, about; it is longer by what a row group becomes.
    """

    def __init__(self, store: ObjectStore, schema: "pa.Schema", *, stem: str, folder: Path, part_bytes: int) -> None:
        self._store = store
        self._schema = schema
        self._stem = stem
        self._path = folder / "part.parquet"
        self._part_bytes = part_bytes
        self._one: _One | None = None
        self.files: list[ExportedFile] = []
        """Those that are in the store."""

    async def write(self, batch: "pa.RecordBatch") -> None:
        """Write rows; upload the file if it is large enough."""
        if self._one is None:
            self._one = await asyncio.to_thread(_One, self._path, self._schema)
        if await asyncio.to_thread(self._one.write, batch) >= self._part_bytes:
            await self._upload()

    async def end(self) -> tuple[ExportedFile, ...]:
        """Upload what is left. Returns all files."""
        if self._one is not None:
            await self._upload()
        return tuple(self.files)

    async def undo(self) -> None:
        """Delete what was uploaded: somebody else has finished this partition."""
        for file in self.files:
            await self._store.delete(file.name)

    def close(self) -> None:
        """Close what is open on the disk."""
        if self._one is not None:
            self._one.close()

    async def _upload(self) -> None:
        one, self._one = self._one, None
        assert one is not None
        await asyncio.to_thread(one.end)
        name = f"{self._stem}-{len(self.files):05d}.parquet"
        await self._store.upload(name, self._path)
        self.files.append(ExportedFile(name, one.rows, one.bytes, one.digest.hexdigest()))


class _One:
    """One file of Parquet on the disk."""

    def __init__(self, path: Path, schema: "pa.Schema") -> None:
        self._file = path.open("wb")
        self._sink = Sink()
        self._encoder: Encoder = make_encoder(Format.PARQUET, Coding.IDENTITY, schema, self._sink, formulas="keep")
        self.digest: Any = hashlib.sha256()
        self.rows = self.bytes = 0

    def write(self, batch: "pa.RecordBatch") -> int:
        """Write rows. Returns the bytes of the file as yet."""
        self._encoder.write(batch)
        self.rows += batch.num_rows
        self._empty()
        return self.bytes

    def end(self) -> None:
        """Write the end."""
        self._encoder.end(self.rows)
        self._empty()
        self._file.close()

    def close(self) -> None:
        """Leave it as it is."""
        self._file.close()

    def _empty(self) -> None:
        data = self._sink.take()
        self.digest.update(data)
        self.bytes += self._file.write(data)
