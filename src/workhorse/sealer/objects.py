"""Where anchors and published logs lie as objects: a folder, or a bucket whose objects nobody can delete for years.

Little is asked of a store: write a key that nobody wrote before, and say which key is the first. On that an anchor is
built that two sealers cannot both carry on (`ObjectAnchor`), and the log as static files (`publishing`).

S3: each object is written under Object Lock in the mode COMPLIANCE, in which no account can delete it or shorten its
time, and conditionally (`If-None-Match`), so that a second writer is told. Whoever may write to the bucket can still
lay a newer version or a delete marker over a key. So keys are read by their versions, and the oldest one counts.
"""

import importlib
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from workhorse.errors import SettingsError, WorkhorseError

__all__ = ["FolderStore", "ObjectStore", "S3Store", "StoreUnreachable", "open_s3"]

CONNECT_SECONDS: Final = 5
READ_SECONDS: Final = 15
ATTEMPTS: Final = 3
MAX_OBJECT: Final = 17 * 1024 * 1024
"""Bytes that are read of one: a full bundle of the largest entries."""
MAX_PAGES: Final = 100
"""Of versions of the first key: of more somebody has made a haystack."""

Mode = Literal["COMPLIANCE", "GOVERNANCE"]


class StoreUnreachable(WorkhorseError):
    """A store did not answer, or did not do what it was asked. The message names it and says why."""


class ObjectStore(Protocol):
    """A place for objects, by key. Its calls block: they are made in a thread."""

    @property
    def name(self) -> str:
        """For logs and messages."""
        ...

    def put_new(self, key: str, raw: bytes, /) -> bool:
        """Write an object that was never written. It is kept when this returns. False: there is one.

        Raises:
            StoreUnreachable: it is not known whether it was written.
        """
        ...

    def put(self, key: str, raw: bytes, /) -> None:
        """Write an object, over an older one if there is one.

        Raises:
            StoreUnreachable: it is not known whether it was written.
        """
        ...

    def originals(self, prefix: str, /) -> Iterator[tuple[str, bytes]]:
        """The objects below a prefix by their keys, ascending, each as it was written first.

        Raises:
            StoreUnreachable: they cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class FolderStore:
    """A folder, best on another machine's disk. It is worth what its file system's rights are."""

    path: Path

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def put_new(self, key: str, raw: bytes, /) -> bool:
        """Write a file that is not there."""
        path = self.path / key
        try:
            if path.exists():
                return False
            waiting = self._written(path, raw)
            try:
                path.hardlink_to(waiting)  # unlike a rename it fails if there is one
            except FileExistsError:
                return False
            finally:
                waiting.unlink()
            _sync(path.parent)
        except OSError as error:
            raise StoreUnreachable(f"{path} cannot be written: {error.strerror}") from error
        return True

    def put(self, key: str, raw: bytes, /) -> None:
        """Write a file, or replace it as a whole."""
        path = self.path / key
        try:
            self._written(path, raw).replace(path)
            _sync(path.parent)
        except OSError as error:
            raise StoreUnreachable(f"{path} cannot be written: {error.strerror}") from error

    def originals(self, prefix: str, /) -> Iterator[tuple[str, bytes]]:
        """The files below a folder."""
        try:
            for path in sorted((self.path / prefix).rglob("*")):
                if path.is_file() and not path.name.startswith("."):
                    with path.open("rb") as file:
                        yield path.relative_to(self.path).as_posix(), file.read(MAX_OBJECT)
        except OSError as error:
            raise StoreUnreachable(f"{self.path} cannot be read: {error.strerror}") from error

    def _written(self, path: Path, raw: bytes) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        waiting = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        with waiting.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        return waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Store:
    """A bucket with Object Lock, below a prefix. `open_s3` makes one.

    Args:
        client: of boto3.
        bucket: its name.
        prefix: of all keys, without slashes at its ends; empty: none.
        days: for which an object cannot be deleted.
        mode: `GOVERNANCE` lets accounts with a special right delete it: for trials.
    """

    client: Any = field(repr=False)
    bucket: str
    prefix: str = ""
    days: int = 3650
    mode: Mode = "COMPLIANCE"

    @property
    def name(self) -> str:
        """The address."""
        return f"s3://{self.bucket}/{self.prefix}"

    def put_new(self, key: str, raw: bytes, /) -> bool:
        """Write an object on the condition that there is none."""
        try:
            self._put(key, raw, {"IfNoneMatch": "*"})
        except _client_error() as error:
            answered: Any = error
            if str(answered.response.get("Error", {}).get("Code")) in {"PreconditionFailed", "412"}:
                return False
            raise self._unreachable(key, "written", error) from error
        except _other_errors() as error:
            raise self._unreachable(key, "written", error) from error
        return True

    def put(self, key: str, raw: bytes, /) -> None:
        """Write a version of an object. Older ones stay."""
        try:
            self._put(key, raw, {})
        except (_client_error(), *_other_errors()) as error:
            raise self._unreachable(key, "written", error) from error

    def originals(self, prefix: str, /) -> Iterator[tuple[str, bytes]]:
        """The oldest version of each key, whatever lies over it."""
        try:
            for key, version in self._oldest(self._key(prefix)):
                got = self.client.get_object(Bucket=self.bucket, Key=key, VersionId=version)
                with got["Body"] as body:
                    raw = body.read(MAX_OBJECT)
                yield key.removeprefix(f"{self.prefix}/" if self.prefix else ""), raw
        except (_client_error(), *_other_errors()) as error:
            raise self._unreachable(prefix, "read", error) from error

    def check(self) -> None:
        """See that the bucket locks its objects.

        Raises:
            SettingsError: it does not.
            StoreUnreachable: it cannot be asked.
        """
        got: Any = {}
        try:
            got = self.client.get_object_lock_configuration(Bucket=self.bucket)
        except _client_error() as error:
            answered: Any = error
            if answered.response.get("Error", {}).get("Code") != "ObjectLockConfigurationNotFoundError":
                raise self._unreachable("", "asked for its Object Lock", error) from error
        except _other_errors() as error:
            raise self._unreachable("", "asked for its Object Lock", error) from error
        if got.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") != "Enabled":
            raise SettingsError(f"the bucket {self.bucket} has no Object Lock; a bucket is created with it")

    def _put(self, key: str, raw: bytes, more: Mapping[str, str]) -> None:
        self.client.put_object(
            Bucket=self.bucket,
            Key=self._key(key),
            Body=raw,
            ChecksumAlgorithm="SHA256",
            ContentType="text/plain; charset=utf-8",
            ObjectLockMode=self.mode,
            ObjectLockRetainUntilDate=datetime.now(UTC) + timedelta(days=self.days),
            **more,
        )

    def _oldest(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Keys and the ids of their oldest versions. A key's versions come newest first, and delete markers apart."""
        pages = self.client.get_paginator("list_object_versions").paginate(
            Bucket=self.bucket, Prefix=f"{prefix}/", PaginationConfig={"PageSize": 1000}
        )
        last: tuple[str, str] | None = None
        since = 0
        for number, page in enumerate(pages):
            for version in page.get("Versions", ()):
                if last is not None and last[0] != version["Key"]:
                    yield last
                    since = number
                last = version["Key"], version["VersionId"]
            if number - since > MAX_PAGES:
                raise StoreUnreachable(
                    f"{self.name} has more than {MAX_PAGES * 1000} versions and delete markers at one key:"
                    " somebody hides what lies below"
                )
        if last is not None:
            yield last

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _unreachable(self, key: str, what: str, error: BaseException) -> StoreUnreachable:
        return StoreUnreachable(f"{self.name}: {key or 'the bucket'} cannot be {what}: {error}")


def open_s3(address: str, *, days: int) -> S3Store:
    """A store at `s3://bucket/prefix`. Region, credentials and endpoint come from where AWS' own tools take them.

    Raises:
        SettingsError: the address is none, or boto3 is not installed.
    """
    scheme, _, rest = address.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise SettingsError(f"{address!r} is not the address of a bucket, such as s3://bank-anchors/audit")
    try:
        # Only here: it takes long to import, and has no types.
        session: Any = importlib.import_module("boto3").session.Session()
        config: Any = importlib.import_module("botocore.config").Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        )
    except ModuleNotFoundError as error:
        raise SettingsError("an anchor in S3 needs the package boto3: pip install 'workhorse[aws]'") from error
    return S3Store(client=session.client("s3", config=config), bucket=bucket, prefix=prefix.strip("/"), days=days)


def _client_error() -> type[Exception]:
    kind: type[Exception] = importlib.import_module("botocore.exceptions").ClientError
    return kind


def _other_errors() -> tuple[type[Exception], ...]:
    return (importlib.import_module("botocore.exceptions").BotoCoreError, OSError)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
