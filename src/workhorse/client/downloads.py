"""Files of exports, downloaded in as many parts as the connection needs, and checked to be whole.

    download("https://api.example/exports/0193...", Path("entries.parquet"), headers={"authorization": ...})

What has come is kept beside the file as `entries.parquet.part`, with the tag of the file that it is a part of: so a
program that was killed goes on where it was. Before it gets its name, all of it is compared with the digest that the
service tells (`Repr-Digest`, RFC 9530).
"""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Callable, Mapping
from email.message import Message
from pathlib import Path
from typing import Any, Final

from workhorse.client.tables import CutShort

__all__ = ["download"]

READ_BYTES: Final = 256 * 1024
MOST_PAUSE_SECONDS: Final = 30.0

Progress = Callable[[int, int], object]
"""Told how many bytes there are, of how many."""


def download(
    url: str,
    path: Path,
    *,
    headers: Mapping[str, str] | None = None,
    timeout_seconds: float = 60,
    patience_seconds: float = 3_600,
    attempts: int = 10,
    progress: Progress | None = None,
) -> Path:
    """Download the file of an export; wait for it while it is being made.

    Args:
        url: of the export, http or https.
        path: of the file, which is there when it is whole. What has come stands beside it until then.
        headers: such as Authorization.
        timeout_seconds: longest pause of the server.
        patience_seconds: how long the file may be in the making.
        attempts: connections that may break, one after the other, without a byte having come.
        progress: see `Progress`.

    Raises:
        CutShort: the connection broke too often, or what came is not what the service has; what is good is kept.
        TimeoutError: the file was not made in time.
        urllib.error.HTTPError: the service refused; its body is a problem document.
        ValueError: the URL is neither http nor https.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url[:100]!r} is not a URL of http or https")
    one = _Download(url, path, dict(headers or {}), timeout_seconds, progress or (lambda _have, _of: None))
    give_up = time.monotonic() + patience_seconds
    broken = 0
    while True:
        before = one.have
        try:
            wait = one.go_on()
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                raise
            broken = 1 if one.have > before else broken + 1
            if broken >= attempts:
                raise CutShort(f"{url} broke off {broken} times; {one.have} bytes are in {one.part}") from error
            time.sleep(min(MOST_PAUSE_SECONDS, 0.1 * 2**broken))
            continue
        if wait is None:
            return path
        if time.monotonic() + wait > give_up:
            raise TimeoutError(f"{url} is not made after {patience_seconds:g} s; ask again later")
        time.sleep(wait)


class _Download:
    """One file, as far as it has come."""

    def __init__(self, url: str, path: Path, headers: dict[str, str], timeout: float, progress: Progress) -> None:
        self._url = url
        self._path = path
        self._headers = headers
        self._timeout = timeout
        self._progress = progress
        self.part = path.with_name(path.name + ".part")
        self._tag_file = path.with_name(path.name + ".part.tag")

    @property
    def have(self) -> int:
        """Bytes that have come."""
        return self.part.stat().st_size if self.part.exists() else 0

    def go_on(self) -> float | None:
        """Ask for what is missing. Returns None when the file is whole, else how long to wait before asking again."""
        headers = dict(self._headers)
        tag = self._tag_file.read_text() if self._tag_file.exists() else ""
        have = self.have if tag else 0
        if have:
            headers |= {"range": f"bytes={have}-", "if-range": tag}
        request = urllib.request.Request(self._url, headers=headers)  # noqa: S310 - http or https
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as reply:  # noqa: S310 - as above
                if reply.status == 202:
                    return max(0.1, min(MOST_PAUSE_SECONDS, float(reply.headers.get("retry-after", "1"))))
                self._take(reply, have if reply.status == 206 else 0)
                digest = _digest(reply.headers)
        except urllib.error.HTTPError as error:
            with error:
                # All of it is there; or more than there is, which the digest tells.
                if error.code != 416 or not have:
                    raise
                digest = _digest(error.headers)
        self._end(digest)
        return None

    def _take(self, reply: Any, have: int) -> None:
        """Add what comes to what is there, or begin anew."""
        self._tag_file.write_text(reply.headers.get("etag", ""))
        missing = int(reply.headers.get("content-length", "-1"))
        of = have + missing
        with self.part.open("r+b" if have else "wb") as file:
            file.seek(have)
            while data := reply.read(READ_BYTES):
                file.write(data)
                have += len(data)
                self._progress(have, of)
        if missing >= 0 and have < of:
            raise http.client.IncompleteRead(b"", of - have)

    def _end(self, digest: str | None) -> None:
        """Give the file its name, if it is what the service has."""
        if digest is not None:
            made = hashlib.sha256()
            with self.part.open("rb") as file:
                while data := file.read(READ_BYTES):
                    made.update(data)
            if made.hexdigest() != digest:
                self.part.unlink()
                self._tag_file.unlink(missing_ok=True)
                raise CutShort(f"what came of {self._url} is not what the service has; it was deleted: ask anew")
        self.part.replace(self._path)
        self._tag_file.unlink(missing_ok=True)


def _digest(headers: Message) -> str | None:
    """The SHA-256 that the service tells, in hexadecimal."""
    name, _, value = headers.get("repr-digest", "").partition("=")
    return b64decode(value.strip(":")).hex() if name == "sha-256" else None
