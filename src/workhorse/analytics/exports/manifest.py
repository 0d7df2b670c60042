"""What an export has written, as it stands in the store.

    _export/began.json           what is exported here: another query is refused
    _export/done/<sha>.json      one partition: its files. Written once, by whoever was first
    _SUCCESS                     all of it; written last, and once

Names that begin with an underscore are hidden from readers of Hive's folders.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec

from workhorse.analytics.exports.faults import ExportRefused
from workhorse.analytics.exports.partitions import Key
from workhorse.contracts.objects import ObjectStore

__all__ = [
    "BEGAN",
    "DONE",
    "SUCCESS",
    "Began",
    "ExportReport",
    "ExportedFile",
    "Partition",
    "claim",
    "place_of",
    "read_manifest",
]

BEGAN: Final = "_export/began.json"
DONE: Final = "_export/done/"
SUCCESS: Final = "_SUCCESS"


class ExportedFile(msgspec.Struct, frozen=True):
    """One file of an export."""

    name: str
    """In the store, with its folder."""
    rows: int
    bytes: int
    sha256: str


class Partition(msgspec.Struct, frozen=True):
    """One partition that is whole."""

    key: Key
    at: str
    """When its rows were read: the begin of the query, in UTC. One that was begun again has several."""
    files: tuple[ExportedFile, ...]


class Began(msgspec.Struct, frozen=True):
    """What is exported."""

    name: str
    digest: str
    """Of the query, its values and how it is partitioned."""


class Manifest(msgspec.Struct, frozen=True):
    """What stands in `_SUCCESS`."""

    name: str
    digest: str
    partition_by: tuple[str, ...]
    partitions: tuple[Partition, ...]


class ExportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an export consists of."""

    name: str
    partitions: int
    rows: int
    bytes: int
    files: tuple[ExportedFile, ...]
    again: bool = False
    """Whether all of it was there before, and nothing was done."""
    resumed: int = 0
    """Partitions that an earlier run had finished."""

    @classmethod
    def of(cls, manifest: Manifest, *, again: bool, resumed: int) -> "ExportReport":
        """The report of a whole export."""
        files = tuple(file for partition in manifest.partitions for file in partition.files)
        return cls(
            name=manifest.name,
            partitions=len(manifest.partitions),
            rows=sum(file.rows for file in files),
            bytes=sum(file.bytes for file in files),
            files=files,
            again=again,
            resumed=resumed,
        )


async def read_manifest(store: ObjectStore) -> ExportReport | None:
    """What a store holds of a whole export; None: it is not whole.

    Readers that must be exact open the files that this names, and no others.

    Raises:
        ExportRefused: `_SUCCESS` is not of our making.
        ObjectStoreFailed: the store cannot be read.
    """
    manifest = await find_manifest(store)
    return None if manifest is None else ExportReport.of(manifest, again=True, resumed=0)


async def find_manifest(store: ObjectStore) -> Manifest | None:
    """As `read_manifest`, with everything."""
    found = await store.read(SUCCESS)
    if found is None:
        return None
    try:
        return msgspec.json.decode(found, type=Manifest)
    except msgspec.MsgspecError as error:
        raise ExportRefused(f"{SUCCESS} of {store!r} is not of an export of ours: {error}") from error


async def claim(store: ObjectStore, name: str, ours: bytes) -> bytes:
    """Write a record unless there is one, and return the one that stands."""
    if await store.put_new(name, ours):
        return ours
    # There is one; or an answer was lost on its way, and it is ours.
    return await store.read(name) or ours


def place_of(key: Key) -> str:
    """Where the record of a partition stands."""
    return f"{DONE}{hashlib.sha256(msgspec.json.encode(key)).hexdigest()[:32]}.json"


def digest_of(*parts: object) -> str:
    """What tells one export from another."""
    return hashlib.sha256(msgspec.json.encode(parts, enc_hook=repr)).hexdigest()


def ordered(partitions: Sequence[Partition]) -> tuple[Partition, ...]:
    """By their values; null last, as in Postgres."""
    return tuple(sorted(partitions, key=lambda one: [(value is None, value or "") for value in one.key]))
