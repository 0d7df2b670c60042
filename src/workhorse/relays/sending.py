"""One attempt: a POST to an address that was looked at, with one deadline around all. The reply's body is not read."""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from workhorse.errors import SettingsError
from workhorse.relays.addresses import AddressRefused, Network, address_of
from workhorse.relays.attempts import Outcome, retry_after

__all__ = ["Sender", "check_url"]

HTTPS: Final = 443
HTTP: Final = 80
MAX_URL: Final = 2_000


class Sender:
    """Posts to one endpoint. It keeps no connection: deliveries are far apart, and an idle one would be dead by then.

    Args:
        url: of the endpoint.
        allowed: networks that may be sent to although they are not public.
        deadline_seconds: for name, connection, request and reply together.
    """

    def __init__(self, url: str, *, allowed: Sequence[Network], deadline_seconds: float) -> None:
        parts = urlsplit(url)
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (HTTPS if self._secure else HTTP)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._named = parts.netloc
        self._allowed = tuple(allowed)
        self._deadline = deadline_seconds
        self._context: ssl.SSLContext | None = None

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """Try once. Whatever goes wrong is told, and not raised."""
        # Only here, because most apps send no webhooks.
        import httpx  # noqa: PLC0415

        try:
            async with asyncio.timeout(self._deadline):
                address = await address_of(self._host, self._port, self._allowed)
                async with httpx.AsyncClient(
                    verify=self._tls(), trust_env=False, follow_redirects=False, timeout=self._deadline
                ) as client:
                    return await self._ask(client, address, body, headers)
        except TimeoutError:
            return Outcome(error=f"no reply within {self._deadline:g} s")
        except (AddressRefused, OSError, httpx.HTTPError, ssl.SSLError) as error:
            return Outcome(error=f"{type(error).__name__}: {error}")

    async def _ask(self, client: Any, address: str, body: bytes, headers: Mapping[str, str]) -> Outcome:
        place = f"[{address}]" if ":" in address else address
        scheme = "https" if self._secure else "http"
        async with client.stream(
            "POST",
            f"{scheme}://{place}:{self._port}{self._target}",
            content=body,
            headers={"content-type": "application/json", "user-agent": "workhorse", **headers, "host": self._named},
            extensions={"sni_hostname": self._host},
        ) as reply:
            return Outcome(status=reply.status_code, retry_after=retry_after(reply.headers.get("retry-after")))

    def _tls(self) -> ssl.SSLContext | bool:
        if not self._secure:
            return True
        if self._context is None:
            self._context = ssl.create_default_context()
        return self._context


def check_url(url: str, *, insecure_http: bool) -> None:
    """See that it is the address of an endpoint.

    Raises:
        SettingsError: it is not.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise SettingsError(f"the webhook's url {url[:200]!r} is malformed: {error}") from None
    if parts.scheme != "https" and not (insecure_http and parts.scheme == "http"):
        raise SettingsError(f"the webhook's url {url[:200]!r} is not https; insecure_http=True takes http")
    plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= MAX_URL
    if not parts.hostname or parts.username is not None or parts.fragment or not plain:
        raise SettingsError(
            f"the webhook's url {url[:200]!r} is not https://host/path of at most {MAX_URL} characters of ASCII,"
            " without a user and a fragment"
        )
