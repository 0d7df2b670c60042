"""What the issuer publishes of its pages (OpenID Connect Discovery 1.0, RFC 8414), fetched when it is needed.

It is good for an hour, and a failed fetch is repeated after some seconds at the earliest, whoever asks. While the
issuer is away, what is known of it stays known: its pages hardly ever move, and if they did, the login would fail there
and not here. There is one fetch at a time, and it belongs to nobody, so that a browser that goes away takes no login of
another one with it.
"""

import asyncio
import math
from collections.abc import Sequence
from time import monotonic
from typing import Final
from urllib.parse import urlsplit

import msgspec

from workhorse.errors import SettingsError
from workhorse.identity.cookies import is_loopback
from workhorse.identity.discovery import IssuerAway, IssuerWrong, check_url, metadata_urls
from workhorse.identity.login.wire import Wire
from workhorse.identity.scheme import IssuerUnavailable
from workhorse.telemetry.log import Log

__all__ = ["Provider", "ProviderMetadata", "read_provider_metadata"]

REFRESH_SECONDS: Final = 3600.0
RETRY_SECONDS: Final = 5.0


class ProviderMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """The members that a login needs (OpenID Connect Discovery 1.0, section 3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    end_session_endpoint: str | None = None
    """OpenID Connect RP-Initiated Logout 1.0, section 2.1."""
    token_endpoint_auth_methods_supported: Sequence[str] = ("client_secret_basic",)
    code_challenge_methods_supported: Sequence[str] | None = None
    authorization_response_iss_parameter_supported: bool = False
    """RFC 9207, section 3."""


def read_provider_metadata(issuer: str, document: bytes) -> ProviderMetadata:
    """Read the metadata of `issuer`.

    Raises:
        IssuerAway: it is no JSON, as the error page of a proxy in between.
        IssuerWrong: it is another issuer's (RFC 8414, section 3.3), lacks what a login needs, names a page that cannot
            be trusted, or says that PKCE with S256 is not offered (RFC 9700, section 2.1.1).
    """
    try:
        decoded = msgspec.json.decode(document)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise IssuerAway(f"the metadata of {issuer} is not JSON") from None
    try:
        metadata = msgspec.convert(decoded, ProviderMetadata)
    except msgspec.ValidationError as error:
        raise IssuerWrong(f"the metadata of {issuer} cannot be used to log in: {error}") from None
    if metadata.issuer != issuer:
        raise IssuerWrong(
            f"the metadata of {issuer} says that it is of {metadata.issuer!r}; name the issuer exactly so, if you"
            " trust it"
        )
    for name in ("authorization_endpoint", "token_endpoint", "end_session_endpoint"):
        url = getattr(metadata, name)
        if url is not None:
            _check_endpoint(issuer, name, url)
    methods = metadata.code_challenge_methods_supported
    if methods is not None and "S256" not in methods:
        raise IssuerWrong(f"{issuer} does not offer PKCE with S256, only {', '.join(methods) or 'none'}: turn it on")
    return metadata


def _check_endpoint(issuer: str, name: str, url: str) -> None:
    try:
        check_url(url, f"the {name} of {issuer}")
    except SettingsError as error:
        raise IssuerWrong(str(error)) from None
    # An issuer elsewhere that names a page on this machine makes us call ourselves.
    if urlsplit(url).scheme != "https" and not _is_here(issuer):
        raise IssuerWrong(f"the {name} of {issuer} is on this machine, {url}; look at who answers there")


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host == "localhost" or is_loopback(host)


class Provider:
    """The pages of one issuer.

    Args:
        issuer: its exact name.
        timeout_seconds: the longest time for a fetch as a whole.
        log: where failures are told.

    Raises:
        SettingsError: the issuer's name is no URL that can be trusted.
    """

    def __init__(self, issuer: str, *, timeout_seconds: float, log: Log | None = None) -> None:
        check_url(issuer, "an issuer")
        self._issuer = issuer
        self._timeout = timeout_seconds
        self._wire = Wire()
        self._metadata: ProviderMetadata | None = None
        self._fetched = self._started = -math.inf
        self._fetch: asyncio.Task[None] | None = None
        self.wrong = ""
        """What can never be used of what it publishes; empty if nothing was found."""
        self._log = log

    async def metadata(self) -> ProviderMetadata:
        """What the issuer publishes.

        Raises:
            IssuerUnavailable: nothing is known of it, and nothing can be had.
        """
        if self._metadata is None:
            await self.refresh()
        else:
            self._start()
        if self._metadata is None:
            raise IssuerUnavailable
        return self._metadata

    async def refresh(self) -> None:
        """Fetch it if it is old, and wait for that. It has a deadline, and never raises."""
        self._start()
        if self._fetch is not None and not self._fetch.done():
            await asyncio.wait({self._fetch})

    def _start(self) -> None:
        now = monotonic()
        idle = self._fetch is None or self._fetch.done()
        if now - self._fetched >= REFRESH_SECONDS and idle and now - self._started >= RETRY_SECONDS:
            self._started = now
            self._fetch = asyncio.create_task(self._run(), name=f"metadata of {self._issuer}")

    async def close(self) -> None:
        """End a fetch that is under way."""
        fetch, self._fetch = self._fetch, None
        if fetch is not None and not fetch.done():
            fetch.cancel()
            await asyncio.wait({fetch})

    async def _run(self) -> None:
        self.wrong = ""
        try:
            async with asyncio.timeout(self._timeout):
                self._metadata = await self._discover()
        except IssuerWrong as error:
            self.wrong = str(error)
            self._failed(self.wrong)
        except TimeoutError:
            self._failed(f"it did not answer within {self._timeout:g} s")
        except Exception as error:  # noqa: BLE001 - nobody awaits this task's result: it would be lost without a word
            self._failed(str(error) or type(error).__name__)
        else:
            self._fetched = monotonic()

    async def _discover(self) -> ProviderMetadata:
        urls = metadata_urls(self._issuer)
        answer = await self._wire.get(urls[0])
        if answer.status in {404, 410}:
            answer = await self._wire.get(urls[1])
        if answer.status != 200:
            raise IssuerAway(f"the metadata of {self._issuer} comes with status {answer.status}")
        return read_provider_metadata(self._issuer, answer.body)

    def _failed(self, why: str) -> None:
        if self._log is not None:
            known = self._metadata is not None
            self._log.event("warning", "login.issuer_away", issuer=self._issuer, why=why, still_known=known)
