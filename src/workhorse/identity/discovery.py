"""Fetches what an issuer publishes: its metadata, and the keys that the metadata points to.

The reader trusts the issuer's name and its TLS certificate, and nothing else on the way: no redirect is followed, what
a document says of its own issuer must be the issuer that was asked, and a document ends at its bound, also where it
was compressed. A fetch as a whole has a deadline, because an issuer that sends a byte a second never times out.

There are two kinds of failure. An issuer that is *away* may be back in a second, and its former keys are still good
for a while. What is *wrong* does not mend itself: someone has to change the settings, or the issuer.
"""

import ipaddress
import re
import ssl
from collections.abc import Sequence
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import msgspec

from workhorse.errors import SettingsError
from workhorse.identity.keys import KeySet, MalformedKeySet, read_key_set

__all__ = ["Fetcher", "IssuerAway", "IssuerWrong", "check_url", "metadata_urls", "read_metadata"]

_AUTHORITY: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_UNUSUAL: Final = re.compile(r"[^!-~]|[|\"\\<>^`{}]")

MAX_METADATA_BYTES: Final = 128 * 1024
MAX_KEYS_BYTES: Final = 256 * 1024
MAX_URL: Final = 2048
METADATA_SECONDS: Final = 3600.0
# A body that is compressed could grow a thousandfold in one step.
HEADERS: Final = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "workhorse"}


class IssuerAway(Exception):  # not a WorkhorseError: it becomes a log line, and IssuerUnavailable where keys lack
    """The issuer did not answer in time, or not with a document. The text says what happened."""


class IssuerWrong(Exception):  # not a WorkhorseError: it becomes a StartupError where it is found at the start
    """The issuer answers with what can never be used. The text says what, and what to look at."""


class Fetcher:
    """Fetches from one issuer. It keeps no connection: an idle one would be dead when it is next needed.

    Args:
        issuer: its exact name, which is the URL that its documents are below.
        keys_url: where its keys are; empty: where its metadata says.
    """

    def __init__(self, issuer: str, *, keys_url: str = "") -> None:
        check_url(issuer, "an issuer")
        if keys_url:
            check_url(keys_url, "the URL of an issuer's keys")
        self._issuer = issuer
        self._given = keys_url
        self._found = ""
        self._discover_at = 0.0
        self._secure: ssl.SSLContext | None = None

    async def fetch(self) -> KeySet:
        """Fetch the keys. The metadata is asked again after an hour, and where the keys were not where it said.

        Raises:
            IssuerAway: it does not answer as it should.
            IssuerWrong: it answers with what can never be used.
        """
        if self._given:
            return _keys(self._given, await self._get(self._given, MAX_KEYS_BYTES))
        url, self._found = self._found, ""
        if not url or monotonic() >= self._discover_at:
            url = await self._discover()
            self._discover_at = monotonic() + METADATA_SECONDS
        keys = _keys(url, await self._get(url, MAX_KEYS_BYTES))
        self._found = url
        return keys

    async def _discover(self) -> str:
        urls = metadata_urls(self._issuer)
        for position, url in enumerate(urls):
            try:
                return read_metadata(self._issuer, await self._get(url, MAX_METADATA_BYTES))
            except _NotThere:
                if position == len(urls) - 1:
                    raise
        raise AssertionError("there is always a URL")

    async def _get(self, url: str, max_bytes: int) -> bytes:
        try:
            async with (
                httpx.AsyncClient(
                    verify=self._context(url), trust_env=not _is_loopback(url), follow_redirects=False, headers=HEADERS
                ) as client,
                client.stream("GET", url) as reply,
            ):
                _check_reply(url, reply)
                document = bytearray()
                async for piece in reply.aiter_raw():
                    document += piece
                    if len(document) > max_bytes:
                        raise IssuerAway(f"{url} has more than {max_bytes} bytes")
                return bytes(document)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise IssuerAway(f"{url} cannot be fetched: {type(error).__name__} {error}".rstrip()) from error

    def _context(self, url: str) -> ssl.SSLContext:
        if urlsplit(url).scheme == "http":
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody, and costs nothing: plain text needs none
        if self._secure is None:
            self._secure = httpx.create_ssl_context()  # reads all certificates: 20 ms
        return self._secure


class _NotThere(IssuerAway):
    """404: it may be elsewhere."""


def check_url(url: str, what: str) -> None:
    """Refuse a URL that cannot be trusted to lead to an issuer.

    Raises:
        SettingsError: it is no URL, not https (http is taken on this machine's own loopback addresses only), has a
            query, fragment or user (OpenID Connect Discovery 1.0, section 3), or is over-long.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    # Stricter than urlsplit, so that no other reader of the URL finds another host in it.
    unusual = parts.username is not None or parts.fragment or "#" in url or _UNUSUAL.search(url) is not None
    if not host or not _AUTHORITY.fullmatch(parts.netloc) or unusual or len(url) > MAX_URL:
        raise SettingsError(f"{what} is {url!r}; it must be a URL such as https://login.example.com/tenant")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(url)):
        raise SettingsError(
            f"{what} is {url!r}; it must begin with https://, or anybody on the way could change its keys"
        )


def metadata_urls(issuer: str) -> Sequence[str]:
    """Where the metadata of `issuer` may be.

    OpenID Connect Discovery 1.0, section 4, appends to the issuer's path; RFC 8414, section 3, inserts before it.
    """
    parts = urlsplit(issuer)
    base, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    return (
        f"{base}{path}/.well-known/openid-configuration",
        f"{base}/.well-known/oauth-authorization-server{path}",
    )


def read_metadata(issuer: str, document: bytes) -> str:
    """The URL of the keys.

    Raises:
        IssuerAway: it is no JSON, as the error page of a proxy in between.
        IssuerWrong: it is another issuer's (RFC 8414, section 3.3), or names no keys, or none that can be trusted.
    """
    try:
        decoded: Any = msgspec.json.decode(document, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise IssuerAway(f"the metadata of {issuer} is not a JSON object") from None
    said, url = decoded.get("issuer"), decoded.get("jwks_uri")
    if said != issuer:
        raise IssuerWrong(
            f"the metadata of {issuer} says that it is of {said!r}; name the issuer exactly so, if you trust it"
        )
    if not isinstance(url, str):
        raise IssuerWrong(f"the metadata of {issuer} names no jwks_uri; give the issuer a keys_url")
    try:
        check_url(url, f"the jwks_uri of {issuer}")
    except SettingsError as error:
        raise IssuerWrong(str(error)) from None
    if urlsplit(url).scheme != "https" and not _is_loopback(issuer):
        raise IssuerWrong(f"the metadata of {issuer} names keys on this machine, {url}; look at who answers there")
    return url


def _keys(url: str, document: bytes) -> KeySet:
    try:
        return read_key_set(document)
    except MalformedKeySet as error:
        raise IssuerAway(f"{url} is no set of keys: {error}") from None


def _check_reply(url: str, reply: httpx.Response) -> None:
    if reply.status_code in {404, 410}:
        raise _NotThere(f"{url} is not there ({reply.status_code})")
    if reply.is_redirect:
        raise IssuerAway(f"{url} redirects to {reply.headers.get('location', '')!r}, which is not followed")
    if reply.status_code != 200:
        raise IssuerAway(f"{url} answers with status {reply.status_code}")
    if reply.headers.get("content-encoding", "identity") != "identity":
        raise IssuerAway(f"{url} is compressed, though that was not asked for")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
