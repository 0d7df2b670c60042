"""Which store an address names."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from workhorse.errors import SettingsError
from workhorse.state.objects.folder import FolderStore

if TYPE_CHECKING:
    from workhorse.contracts.objects import ObjectStore

__all__ = ["open_store"]

CLOUDS: Final = frozenset({"s3", "gs", "az", "abfs", "abfss", "azure"})


def open_store(address: str | Path, *, config: Mapping[str, str] | None = None) -> "ObjectStore":
    """Open a store.

    Args:
        address: a folder; `file:///exports`; or `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`.
        config: of a cloud's store, by obstore's names, such as `endpoint`, `region`. What it does not say comes from
            the environment, as the cloud's own tools have it (`AWS_ACCESS_KEY_ID`, ...), or from the machine's role.

    Raises:
        SettingsError: the address names no store, or its library is not installed.
    """
    text = str(address)
    scheme, separator, _ = text.partition("://")
    if not separator:
        return FolderStore(Path(text))
    if scheme == "file":
        return FolderStore(Path(unquote(urlsplit(text).path)))
    if scheme not in CLOUDS:
        known = ", ".join(f"{name}://" for name in sorted(CLOUDS))
        raise SettingsError(f"{text[:200]!r} names no store: a folder, file://, {known}")
    from workhorse.state.objects.cloud import CloudStore  # noqa: PLC0415 - its library is optional

    return CloudStore(text, config or {})
