"""The buckets of clouds, over `obstore` (the Rust crate `object_store`): S3 and what speaks it, Google's, Azure's.

`put_new` is a conditional PUT (`If-None-Match: *`), of which the store lets one through. Larger files go in parts, and
are seen when the last one has been confirmed.
"""

from collections.abc import AsyncIterator, Awaitable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from workhorse.contracts.objects import ObjectStoreFailed
from workhorse.errors import SettingsError
from workhorse.state.objects.names import MAX_NAMES, checked

__all__ = ["CloudStore"]

PART_BYTES: Final = 8 * 1024 * 1024
READ_BYTES: Final = 4 * 1024 * 1024
TIMEOUT: Final = timedelta(seconds=30)
PATIENCE: Final = timedelta(seconds=60)

T = TypeVar("T")


class CloudStore:
    """Objects of a bucket below a prefix (see `contracts.objects`).

    Args:
        url: such as `s3://bucket/prefix`.
        config: see `open_store`.

    Raises:
        SettingsError: `obstore` is not installed, or the URL or the config are malformed.
    """

    def __init__(self, url: str, config: Mapping[str, str]) -> None:
        try:
            import obstore  # noqa: PLC0415 - an optional library
            from obstore import store as stores  # noqa: PLC0415 - as above
        except ImportError as error:
            raise SettingsError("buckets need a library: pip install 'workhorse[objects]'") from error
        # Its types tell the clouds' configs apart, which a URL does only when it is read.
        self._obstore: Any = obstore
        from_url: Any = stores.from_url
        self._url = url
        # Plain HTTP only where an endpoint says so: a server on this machine, for tests.
        plain = config.get("endpoint", "").startswith("http://")
        try:
            self._store: Any = from_url(
                url,
                config=dict(config),
                client_options={"timeout": TIMEOUT, "allow_http": plain},
                retry_config={"max_retries": 5, "retry_timeout": PATIENCE},
            )
        except Exception as error:
            raise SettingsError(f"{url!r} cannot be opened as a store: {error}") from error

    def __repr__(self) -> str:
        return f"<CloudStore {self._url}>"

    async def put_new(self, name: str, data: bytes) -> bool:
        """See `ObjectStore`."""
        exists, name = self._obstore.exceptions.AlreadyExistsError, checked(name)
        try:
            await self._obstore.put_async(self._store, name, data, mode="create", use_multipart=False)
        except exists:
            return False
        except Exception as error:
            raise self._failed(error) from error
        return True

    async def upload(self, name: str, file: Path) -> None:
        """See `ObjectStore`."""
        await self._asked(
            self._obstore.put_async(self._store, checked(name), file, chunk_size=PART_BYTES, max_concurrency=2)
        )

    async def read(self, name: str) -> bytes | None:
        """See `ObjectStore`."""
        name = checked(name)
        try:
            found = await self._obstore.get_async(self._store, name)
            return bytes(await found.bytes_async())
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._failed(error) from error

    async def size(self, name: str) -> int | None:
        """See `ObjectStore`."""
        name = checked(name)
        try:
            size: int = (await self._obstore.head_async(self._store, name))["size"]
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._failed(error) from error
        return size

    async def stream(self, name: str, start: int, end: int) -> AsyncIterator[bytes]:
        """See `ObjectStore`."""
        while start < end:
            upto = min(end, start + READ_BYTES)
            part = await self._asked(self._obstore.get_range_async(self._store, checked(name), start=start, end=upto))
            yield bytes(part)
            start = upto

    async def names(self, prefix: str = "") -> list[str]:
        """See `ObjectStore`."""
        found: list[str] = []
        try:
            async for objects in self._obstore.list(self._store, prefix or None):
                found += [one["path"] for one in objects]
                if len(found) > MAX_NAMES:
                    break
        except Exception as error:
            raise self._failed(error) from error
        if len(found) > MAX_NAMES:
            raise ObjectStoreFailed(f"{self._url} has more than {MAX_NAMES} objects below {prefix!r}")
        return sorted(found)

    async def delete(self, name: str) -> None:
        """See `ObjectStore`."""
        name = checked(name)
        try:
            await self._obstore.delete_async(self._store, name)
        except FileNotFoundError:
            return
        except Exception as error:
            raise self._failed(error) from error

    async def _asked(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> ObjectStoreFailed:
        # The first line: what follows it are headers and bodies.
        said = str(error).strip().splitlines()
        return ObjectStoreFailed(f"{self._url} failed: {said[0][:300] if said else type(error).__name__}")
