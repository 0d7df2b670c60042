"""The files of one partition, written to the local disk one at a time, and uploaded when they are large enough."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from workhorse.analytics.exports.file import FileWriter
from workhorse.analytics.exports.manifest import ExportedFile
from workhorse.analytics.tables import Format
from workhorse.contracts.objects import ObjectStore

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Spool"]


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
        self._one: FileWriter | None = None
        self.files: list[ExportedFile] = []
        """Those that are in the store."""

    async def write(self, batch: "pa.RecordBatch") -> None:
        """Write rows; upload the file if it is large enough."""
        if self._one is None:
            self._one = await asyncio.to_thread(FileWriter, self._path, self._schema, Format.PARQUET)
        await asyncio.to_thread(self._one.write, batch)
        if self._one.bytes >= self._part_bytes:
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
        try:
            await asyncio.to_thread(one.end)
        finally:
            one.close()
        name = f"{self._stem}-{len(self.files):05d}.parquet"
        await self._store.upload(name, self._path)
        self.files.append(ExportedFile(name, one.rows, one.bytes, one.digest.hexdigest()))
