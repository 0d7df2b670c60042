"""A query into a store as Parquet in Hive's folders: `day=2026-11-23/part-3f9c…-00000.parquet`.

One query gives all rows in the order of their partitions, so that one file is open at a time, and memory is that of a
row group. A file has a name of its own run, which nobody else writes. When the last row of a partition has been
uploaded, a record of its files is put into the store, and of all who try only the first one does (`put_new`). Started
again after a crash, an export asks for the partitions that have no record. At the end what no record names is deleted,
and `_SUCCESS`, with the list of all files, is put there last.

So the folder that an export is given is its identity. Given again it does nothing; another query is refused there.
"""

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Final

import msgspec

from workhorse.analytics.exports.faults import ExportRefused
from workhorse.analytics.exports.file import Progress
from workhorse.analytics.exports.manifest import (
    BEGAN,
    DONE,
    SUCCESS,
    Began,
    ExportReport,
    Manifest,
    Partition,
    claim,
    digest_of,
    find_manifest,
    ordered,
    place_of,
)
from workhorse.analytics.exports.partitions import Key, check_keys, cut, folder_of
from workhorse.analytics.exports.spool import Spool
from workhorse.analytics.tables import Selection
from workhorse.analytics.tables.columns import quoted
from workhorse.context import CURRENT
from workhorse.contracts.objects import ObjectStore

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DatasetOptions", "export_dataset"]

FILE: Final = "part-"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetOptions:
    """How an export is laid out."""

    part_bytes: int = 64 * 1024 * 1024
    """Of a file, about, and a row group (500,000 rows, or 16 MiB in memory) at the least. One is on the local disk."""
    most_partitions: int = 10_000
    spool: Path | None = None
    """A folder of the local disk for the file that is written; None: that for temporary files."""

    def __post_init__(self) -> None:
        if not 64 * 1024 <= self.part_bytes <= 5 * 1024**3:
            raise ValueError(f"part_bytes is {self.part_bytes}; it must be 64 KiB to 5 GiB")
        if not 1 <= self.most_partitions <= 50_000:
            raise ValueError(f"most_partitions is {self.most_partitions}; it must be 1 to 50,000")


async def export_dataset(
    selection: Selection,
    *,
    to: ObjectStore,
    partition_by: Sequence[str] = (),
    options: DatasetOptions | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Export a query into a store. Killed and called again, it goes on behind the last partition that is whole.

    Args:
        selection: `tables.select(...)`. Its columns are read with the rights of whoever this runs for.
        to: a folder of its own in a store: `open_store("s3://bucket/entries/2026-11-23")`.
        partition_by: columns of the query that make folders: dates, whole numbers, texts, truth values.
        options: see `DatasetOptions`.
        progress: see `Progress`.

    Returns:
        What the export consists of, whichever runs have made it. Partitions of a run that was begun again were read
        later than those before it: the manifest says when each was.

    Raises:
        ExportRefused: something else is exported there, or the columns make no folders.
        ObjectStoreFailed: the store cannot be reached; what it has stands, and the next run goes on behind it.
        ColumnsRefused, QueryFailed, TooManyRows, DatabaseUnavailable, DatabaseTimeout: as `Selection.open`.
    """
    one = _Export(selection, to, tuple(partition_by), options or DatasetOptions(), progress or (lambda _: None))
    return await one.run()


class _Export:
    """One run."""

    def __init__(
        self,
        selection: Selection,
        store: ObjectStore,
        names: tuple[str, ...],
        options: DatasetOptions,
        progress: Progress,
    ) -> None:
        if "%" in "".join(names):
            raise ExportRefused("a column with a per cent sign in its name makes no folder: rename it with AS")
        self._selection = selection
        self._store = store
        self._names = names
        self._options = options
        self._progress = progress
        request = CURRENT.get(None)
        # With other scopes other columns may be null, and partitions of both would make no whole.
        scopes = sorted(request.principal.scopes) if request is not None else []
        asked = selection.statement, selection.params, selection.classes, selection.cells, selection.unfit
        self._digest = digest_of(asked, names, scopes)
        self._at = datetime.now(UTC).isoformat(timespec="microseconds")
        self._done: dict[Key, Partition] = {}
        self._rows = 0

    async def run(self) -> ExportReport:
        """Export what is not there."""
        whole = await find_manifest(self._store)
        if whole is not None:
            self._refuse_another(whole.name, whole.digest)
            return ExportReport.of(whole, again=True, resumed=len(whole.partitions))
        ours = msgspec.json.encode(Began(self._selection.name, self._digest))
        began = msgspec.json.decode(await claim(self._store, BEGAN, ours), type=Began)
        self._refuse_another(began.name, began.digest)
        for name in await self._store.names(DONE):
            partition = msgspec.json.decode(await self._store.read(name) or b"", type=Partition)
            self._done[partition.key] = partition
        resumed = len(self._done)
        with tempfile.TemporaryDirectory(prefix="workhorse-export-", dir=self._options.spool) as folder:
            await self._export(Path(folder))
        await self._delete_strays()
        manifest = Manifest(self._selection.name, self._digest, self._names, ordered(list(self._done.values())))
        stands = await claim(self._store, SUCCESS, msgspec.json.encode(manifest))
        return ExportReport.of(msgspec.json.decode(stands, type=Manifest), again=False, resumed=resumed)

    def _refuse_another(self, name: str, digest: str) -> None:
        if digest != self._digest:
            raise ExportRefused(
                f"{self._store!r} holds an export of {name!r} with another query, other values, partitions or"
                " scopes: give each export a folder of its own"
            )

    async def _export(self, folder: Path) -> None:
        spool: Spool | None = None
        current: Key | None = None
        finished: set[Key] = set()
        try:
            async with self._remaining().open() as frames:
                check_keys(frames.schema, self._names)
                schema = self._schema(frames.schema)
                async for batch in frames:
                    for key, part in cut(batch, self._names):
                        if key != current:
                            if spool is not None and current is not None:
                                await self._finish(current, spool)
                                finished.add(current)
                            if key in finished:
                                raise ExportRefused(f"the rows of {folder_of(self._names, key)} do not come together")
                            spool, current = self._begin(key, schema, folder), key
                        if spool is not None:
                            await spool.write(part)
                            self._rows += part.num_rows
                    self._progress(self._rows)
            if current is None and not self._names and not self._done:
                # Of no rows at all there is still a file, which says of what type they would have been.
                spool, current = self._begin((), schema, folder), ()
                assert spool is not None
                await spool.write(_empty(schema))
            if spool is not None and current is not None:
                await self._finish(current, spool)
        finally:
            if spool is not None:
                spool.close()

    def _begin(self, key: Key, schema: "pa.Schema", folder: Path) -> Spool | None:
        """Where the rows of a partition go; None: an earlier run has exported it."""
        if key in self._done:
            return None
        if len(self._done) >= self._options.most_partitions:
            raise ExportRefused(f"there are more than {self._options.most_partitions} partitions: partition by less")
        inside = folder_of(self._names, key)
        # Of each partition, since some file systems take the folders `r=a` and `r=A` for one.
        own = f"{FILE}{token_hex(8)}"
        stem = f"{inside}/{own}" if inside else own
        return Spool(self._store, schema, stem=stem, folder=folder, part_bytes=self._options.part_bytes)

    async def _finish(self, key: Key, spool: Spool) -> None:
        """Put the record of a partition there; where somebody else's stands, our files are none of the export's."""
        ours = Partition(key, self._at, await spool.end())
        stands = msgspec.json.decode(await claim(self._store, place_of(key), msgspec.json.encode(ours)), type=Partition)
        if stands != ours:
            await spool.undo()
        self._done[key] = stands

    def _remaining(self) -> Selection:
        """The query, in the order of its partitions, without those that are done."""
        names = [quoted(name) for name in self._names]
        inner = self._selection.statement.strip().rstrip(";")
        if not names:
            return replace(self._selection, statement=inner) if not self._done else self._nothing(inner)
        statement = f'SELECT * FROM (\n{inner}\n) AS "exported"'  # noqa: S608 - names are quoted
        params = self._selection.params
        if self._done:
            done = [msgspec.json.encode(key).decode() for key in self._done]
            key = f"jsonb_build_array({', '.join(f'{name}::text' for name in names)})"
            if isinstance(params, Mapping):
                statement += f" WHERE {key} <> ALL(%(workhorse_done)s::text[]::jsonb[])"
                params = {**params, "workhorse_done": done}
            else:
                statement += f" WHERE {key} <> ALL(%s::text[]::jsonb[])"
                params = (*params, done)
        statement += f" ORDER BY {', '.join(names)}"
        return replace(self._selection, statement=statement, params=params)

    def _nothing(self, inner: str) -> Selection:
        """The query without its rows: they are exported."""
        return replace(self._selection, statement=f'SELECT * FROM (\n{inner}\n) AS "exported" LIMIT 0')  # noqa: S608

    def _schema(self, schema: "pa.Schema") -> "pa.Schema":
        """That of the files."""
        import pyarrow as pa  # noqa: PLC0415 - an optional library

        return pa.schema([field for field in schema if field.name not in self._names])

    async def _delete_strays(self) -> None:
        """Delete files of runs that were killed: readers of the folders would take their rows for further ones."""
        kept = {file.name for partition in self._done.values() for file in partition.files}
        names = [name for name in await self._store.names() if name.rpartition("/")[2].startswith(FILE)]
        strays = [name for name in names if name not in kept]
        for first in range(0, len(strays), 8):
            await asyncio.gather(*(self._store.delete(name) for name in strays[first : first + 8]))


def _empty(schema: "pa.Schema") -> "pa.RecordBatch":
    import pyarrow as pa  # noqa: PLC0415 - an optional library

    return pa.RecordBatch.from_pylist([], schema=schema)
