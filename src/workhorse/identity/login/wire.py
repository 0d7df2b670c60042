"""One bounded request to the issuer: for its metadata, or to its token endpoint.

As in `discovery`, nothing is trusted but the issuer's name and its TLS certificate: no redirect is followed, because a
redirected token request would hand code and client secret to wherever it points (RFC 9700, section 4.12); a body ends
at its bound, also where it was compressed; and the caller sets one deadline around the whole.
"""

import ssl
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import httpx

from workhorse.identity.cookies import is_loopback
from workhorse.identity.discovery import HEADERS, IssuerAway

__all__ = ["Answer", "Wire"]

MAX_BYTES: Final = 128 * 1024
"""The longest document that is read: metadata, or a set of tokens."""


class Answer(NamedTuple):
    """What the issuer answered."""

    status: int
    body: bytes


class Wire:
    """Sends requests to one issuer. It keeps no connection: an idle one would be dead when it is next needed."""

    def __init__(self) -> None:
        self._secure: ssl.SSLContext | None = None

    async def get(self, url: str) -> Answer:
        """Ask for a document.

        Raises:
            IssuerAway: there is no answer that can be used.
        """
        return await self._send("GET", url, None, {})

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """Send a form.

        Raises:
            IssuerAway: there is no answer that can be used.
        """
        return await self._send("POST", url, form, headers)

    async def _send(self, method: str, url: str, form: Mapping[str, str] | None, headers: Mapping[str, str]) -> Answer:
        try:
            async with (
                httpx.AsyncClient(
                    verify=self._context(url),
                    trust_env=not _is_here(url),
                    follow_redirects=False,
                    headers={**HEADERS, **headers},
                    timeout=None,  # noqa: S113 - the caller's deadline holds for the whole, which httpx has none for
                ) as client,
                client.stream(method, url, data=form) as reply,
            ):
                if reply.is_redirect:
                    raise IssuerAway(f"{url} redirects to {reply.headers.get('location', '')!r}, which is not followed")
                if reply.headers.get("content-encoding", "identity") != "identity":
                    raise IssuerAway(f"{url} is compressed, though that was not asked for")
                body = bytearray()
                async for piece in reply.aiter_raw():
                    body += piece
                    if len(body) > MAX_BYTES:
                        raise IssuerAway(f"{url} has more than {MAX_BYTES} bytes")
                return Answer(reply.status_code, bytes(body))
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise IssuerAway(f"{url} cannot be reached: {type(error).__name__} {error}".rstrip()) from error

    def _context(self, url: str) -> ssl.SSLContext:
        if urlsplit(url).scheme == "http":
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody, and costs nothing: plain text needs none
        if self._secure is None:
            self._secure = httpx.create_ssl_context()  # reads all certificates: 20 ms
        return self._secure


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host == "localhost" or is_loopback(host)
