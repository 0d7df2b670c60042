"""A log that is read over HTTP, from the service or the bucket that shows it (C2SP tlog-tiles), to be verified here.

Nothing that comes is believed: redirects are not followed, each file is read to the bound of its kind, and each request
has a deadline. Events are not to be had like this, so the log is verified alone.
"""

from collections.abc import Iterator
from http.client import HTTPException
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from workhorse.audit.faults import Malformed

__all__ = ["HttpExport"]

SECONDS: Final = 30.0
NOT_FOUND: Final = 404


class HttpExport:
    """An export below an address.

    Args:
        url: of the folder, such as `https://bank.example/audit-log`.
        token: sent as `Authorization: Bearer`; none by default.

    Raises:
        Malformed: it is no address of HTTP.
    """

    def __init__(self, url: str, *, token: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise Malformed(f"{url[:200]!r} is no address of a log, such as https://bank.example/audit-log")
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._opener = build_opener(_NoRedirect)

    def read(self, path: str, limit: int, /) -> bytes | None:
        """The bytes of a file."""
        url = f"{self._url}/{path}"
        try:
            request = Request(url, headers=self._headers)  # noqa: S310 - its scheme was looked at
            with self._opener.open(request, timeout=SECONDS) as reply:
                raw: bytes = reply.read(limit + 1)
                return raw
        except HTTPError as error:
            if error.code == NOT_FOUND:
                return None
            raise Malformed(f"{url} was answered with {error.code}; it takes 200 with the file, or 404") from error
        except (URLError, HTTPException, OSError) as error:
            raise Malformed(f"{url} cannot be read: {error}") from error

    def history(self) -> list[str]:
        """None: nobody lists them over HTTP. Earlier checkpoints are given to the verifier as anchors."""
        return []

    def lines(self) -> Iterator[bytes] | None:
        """None: the events are not shown."""
        return None


class _NoRedirect(HTTPRedirectHandler):
    """Somebody else's address is another log, and must not be sent the token."""

    def redirect_request(self, *_: object, **_named: object) -> None:
        """None: the reply is an error like others."""
