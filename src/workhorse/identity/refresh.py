"""Keeps an issuer's keys fresh, without ever letting its callers, or its failure, decide how often it is asked.

By the age of the keys that are at hand:

    up to refresh_seconds       nothing happens, and tokens that were verified are recalled without coming here
    up to twice that            the first token starts a fetch and waits for nothing
    up to stale_seconds         a token waits for the fetch; if that fails, the keys are still good
    beyond                      without a fetch that succeeds, nobody can be known: IssuerUnavailable

A token that names an unknown key may be the first after a rotation: it starts a fetch and waits, but only if none was
started for `cooldown_seconds`. So an attacker who makes up names gets one fetch in that time, for all of them.

There is one fetch at a time, and it belongs to nobody: a request that is cancelled leaves it to the others that wait.
"""

import asyncio
import math
from time import time
from typing import Final

from workhorse.errors import StartupError
from workhorse.identity.discovery import Fetcher, IssuerAway, IssuerWrong
from workhorse.identity.issuer import Issuer, faults_of
from workhorse.identity.keys import Key, KeySet
from workhorse.identity.reason import Reason, Refused
from workhorse.identity.scheme import IssuerUnavailable
from workhorse.telemetry.log import Log

__all__ = ["FetchedKeys"]

RETRY_SECONDS: Final = 5.0
"""Least time between two fetches while the issuer is away."""


class FetchedKeys:
    """The keys of one issuer, fetched when they are needed.

    Args:
        issuer: whose.
        log: where changes and failures are told.

    Raises:
        SettingsError: the issuer's name is no URL that can be trusted.
    """

    def __init__(self, issuer: Issuer, log: Log | None = None) -> None:
        self._issuer = issuer
        self._log = log
        self._fetcher = Fetcher(issuer.name, keys_url=issuer.keys_url)
        self._keys = KeySet()
        # Both in seconds since 1970, on the clock of whoever asks.
        self._fetched = -math.inf
        self._started = -math.inf
        self._wrong = ""
        self._fetch: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Fetch the keys. An issuer that is away is no fault: it is asked again when the first token comes.

        Raises:
            StartupError: what the issuer publishes can never be used.
        """
        now = time()
        self._start(now)
        await self._wait()
        if self._wrong:
            raise StartupError(f"the tokens of {self._issuer.name} cannot be verified: {self._wrong}")

    async def find(self, kid: str | None, now: float) -> Key:
        """The key that a token names; where it names none, the only one.

        Raises:
            Refused: unknown_key.
            IssuerUnavailable: there are no keys that are fresh enough, and none can be had.
        """
        refresh, stale = self._issuer.refresh_seconds, self._issuer.stale_seconds
        age = now - self._fetched
        if age >= refresh:
            if self._may_start(now, RETRY_SECONDS):
                self._start(now)
            if age >= 2 * refresh:
                await self._wait()
        if now - self._fetched >= stale:
            raise IssuerUnavailable
        key = self._keys.select(kid)
        if key is None:
            if self._may_start(now, self._issuer.cooldown_seconds):
                self._start(now)
            await self._wait()
            key = self._keys.select(kid)
        if key is None:
            raise Refused(Reason.UNKNOWN_KEY)
        return key

    async def close(self) -> None:
        """End a fetch that is under way."""
        fetch, self._fetch = self._fetch, None
        if fetch is not None and not fetch.done():
            fetch.cancel()
            await asyncio.wait({fetch})

    def _may_start(self, now: float, pause: float) -> bool:
        """Whether none is under way, and none was started lately. A clock that was set back does not hold it up."""
        return (self._fetch is None or self._fetch.done()) and not 0 <= now - self._started < pause

    def _start(self, now: float) -> None:
        self._started = now
        # While it is under way, what is known stays known, but for keys so old that every token waits for it.
        if now - self._fetched < 2 * self._issuer.refresh_seconds:
            self._extend(now + self._issuer.timeout_seconds)
        self._fetch = asyncio.create_task(self._run(now), name=f"keys of {self._issuer.name}")

    async def _wait(self) -> None:
        """Wait for the fetch that is under way, if one is. It has a deadline, and never raises."""
        if self._fetch is not None and not self._fetch.done():
            await asyncio.wait({self._fetch})

    async def _run(self, now: float) -> None:
        self._wrong = ""
        try:
            async with asyncio.timeout(self._issuer.timeout_seconds):
                fetched = await self._fetcher.fetch()
        except IssuerWrong as error:
            self._wrong = str(error)
            self._failed(now, error)
        except IssuerAway as error:
            self._failed(now, error)
        except TimeoutError:
            self._failed(now, IssuerAway(f"it did not answer within {self._issuer.timeout_seconds:g} s"))
        except Exception as error:  # noqa: BLE001 - nobody awaits this task's result: it would be lost without a word
            self._failed(now, error)
        else:
            self._arrived(now, fetched)

    def _arrived(self, now: float, fetched: KeySet) -> None:
        if not fetched.keys:
            # Taken at its word: a set that was emptied may be the issuer's way to say that its keys were stolen.
            self._wrong = f"it publishes no key that can be used: {faults_of(fetched)}"
        before = {key.kid for key in self._keys.keys}
        self._keys = fetched.succeed(self._keys)
        self._fetched = now
        self._extend(now + self._issuer.refresh_seconds)
        after = {key.kid for key in self._keys.keys}
        if self._log is not None and before != after:
            self._log.event(
                "info" if after else "error",
                "identity.keys_changed",
                issuer=self._issuer.name,
                added=sorted(after - before),
                removed=sorted(before - after),
                unusable=list(fetched.faults),
            )

    def _failed(self, now: float, error: Exception) -> None:
        self._extend(now + RETRY_SECONDS)
        if self._log is not None:
            age = now - self._fetched
            self._log.event(
                "warning",
                "identity.issuer_away",
                issuer=self._issuer.name,
                why=str(error) or type(error).__name__,
                keys_good_for_seconds=max(0, round(self._issuer.stale_seconds - age)) if math.isfinite(age) else 0,
            )

    def _extend(self, until: float) -> None:
        """Let verified tokens be recalled until then, but never with keys that are stale."""
        self._keys.extend(min(until, self._fetched + self._issuer.stale_seconds))
