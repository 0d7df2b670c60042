"""API keys: what a program shows that has no login, made here and kept as a digest.

    keys = ApiKeys(store)
    text, record = await keys.create("payroll", name="night batch", scopes=["transfers:write"])

    X-API-Key: wh_4mT9kQ2xBv7a_0Yt...            or            Authorization: ApiKey wh_4mT9kQ2xBv7a_0Yt...

`Authorization: Bearer` is left to tokens: if two schemes read one header, who calls would depend on which is asked
first. A request with a key in both places is refused.

A key that was found good is recalled without the store for `known_seconds`. So that is how long a key may still work,
in other processes, after it was revoked; in the process that revoked it, it ends at once. What guessing costs:

- A key of another form or with a wrong checksum is refused without asking the store.
- A refused key is refused again from memory, for as long. The two memories are apart: refused keys, however many, push
  no good key out, and both are bounded.
- Keys that were never good in this process share a few look-ups at a time, with a short queue. Keys that were good
  before do not wait in it: a flood of guesses takes neither the store's connections nor their turn.

How keys are made and ended is in `key_desk`, and when they were last used in `key_uses`.
"""

import asyncio
import math
import time
from collections.abc import Callable
from hashlib import sha256
from hmac import compare_digest
from typing import Final, NamedTuple

from workhorse.contracts import ApiKeyRecord, ApiKeyStore
from workhorse.errors import SettingsError, StoreUnavailable
from workhorse.identity.key_desk import KeyDesk
from workhorse.identity.key_text import KeyText
from workhorse.identity.key_uses import KeyUses
from workhorse.identity.known import Known
from workhorse.identity.reason import Reason, Refused
from workhorse.identity.scheme import Credentials, NotAuthenticated, Surroundings
from workhorse.principal import Kind, Principal
from workhorse.telemetry.log import Log

__all__ = ["ApiKeys"]

SCHEME: Final = b"apikey "
MAX_KNOWN_SECONDS: Final = 300
MAX_KEY_BYTES: Final = 128
"""Longer headers are not even hashed; a key of the longest brand has 82."""
MAX_LOOKUPS: Final = 4
MAX_WAITING: Final = 1_000
MAX_WAIT_SECONDS: Final = 2.0
"""Keys that were never good here: so many are looked up at a time, so many may wait for that, and for so long."""
MAX_ENDED: Final = 1_000
"""Keys that this process ended within `known_seconds`; with more, all good keys are looked up anew."""


class Proven(NamedTuple):
    """A key that was good."""

    principal: Principal
    read: float
    """When its row was asked for, on the clock."""


class Rejected(NamedTuple):
    """A key that was not."""

    reason: Reason
    read: float


class ApiKeys(KeyDesk):
    """Knows callers by an API key, in X-API-Key or as `Authorization: ApiKey`.

    Args:
        store: where the keys are; by default that of the service.
        known_seconds: how long a key is taken without asking the store: the longest that a revoked one still works in
            another process. 0 to 300; with 0 the store is asked by every request.
        brand: what the keys begin with (see `KeyText`).
        realm: what is protected, for the challenge that a client without a key is sent.
        max_known: how many good keys are remembered, twice; and as many refused ones.
        flush_seconds: how often it is written when keys were last used.
        max_uses: of how many keys that is gathered at most between two writes; of further ones it is not noted.
        log: where changes of keys are told; by default the service's.
        clock: seconds on a clock that never goes back.

    Raises:
        SettingsError: a name or number makes no sense.
    """

    def __init__(
        self,
        store: ApiKeyStore | None = None,
        *,
        known_seconds: float = 5.0,
        brand: str = "wh",
        realm: str = "api",
        max_known: int = 10_000,
        flush_seconds: float = 30.0,
        max_uses: int = 10_000,
        log: Log | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(store, KeyText(brand), log=log)
        if not 0 <= known_seconds <= MAX_KNOWN_SECONDS:
            raise SettingsError(
                f"known_seconds is {known_seconds:g}; it must be 0 to {MAX_KNOWN_SECONDS}: for so long a revoked key"
                " may still work"
            )
        if max_known < 1 or max_uses < 1 or flush_seconds <= 0:
            raise SettingsError("max_known and max_uses must be at least 1, and flush_seconds above 0")
        if not realm or not realm.isascii() or not realm.isprintable() or any(mark in realm for mark in '"\\'):
            raise SettingsError(f"the realm is {realm!r}; it must be printable ASCII without quotes")
        self.challenge: Final = f'ApiKey realm="{realm}"'.encode()
        self._known_seconds = known_seconds
        self._clock = clock
        self._good: Known[Proven] = Known(capacity=max_known, max_bytes=MAX_KEY_BYTES)
        self._bad: Known[Rejected] = Known(capacity=max_known, max_bytes=MAX_KEY_BYTES)
        # What was read before these times, on the clock, is out of date: of one key, and of all.
        self._ended: dict[str, float] = {}
        self._all_ended = -math.inf
        self._asking: dict[bytes, asyncio.Task[ApiKeyRecord | None]] = {}
        self._strangers = asyncio.Semaphore(MAX_LOOKUPS)
        self._waiting = 0
        self._uses = KeyUses(self._given_store, capacity=max_uses, every_seconds=flush_seconds)

    def __repr__(self) -> str:
        return f"<ApiKeys: {len(self._good)} known, {self._waiting} waiting to be looked up>"

    def bind(self, surroundings: Surroundings) -> None:
        """Take the service's store, if none is named in the code.

        Raises:
            SettingsError: it has none either.
        """
        self._log = self._log if self._log is not None else surroundings.log
        self._recorder = surroundings.recorder
        if not self._own_store:
            # Anew at each start: the stores of a run that has ended are closed.
            self._store = surroundings.api_keys
        self._given_store()

    def presents(self, credentials: Credentials) -> bool:
        """Whether there is an X-API-Key header, or an Authorization header of the scheme ApiKey."""
        return credentials.api_key is not None or _is_api_key(credentials.authorization)

    def recall(self, credentials: Credentials, now: float) -> Principal | None:
        """The caller, if the store said at most `known_seconds` ago that the key is good, and it has not expired."""
        key = _key_of(credentials)
        proven = self._good.find(key) if key is not None else None
        if proven is None or not self._is_fresh(proven) or now >= proven.principal.expires:
            return None
        self._uses.note(proven.principal.credential, now)
        return proven.principal

    async def verify(self, credentials: Credentials, now: float) -> Principal:
        """The caller, as the store says.

        Raises:
            NotAuthenticated: the key is malformed, unknown, expired or revoked, or there is one in both headers.
            StoreUnavailable: the store does not answer, or too many unknown keys are being looked up.
        """
        principal = self.recall(credentials, now)
        if principal is not None:
            return principal
        try:
            return await self._verify(credentials, now)
        except Refused as refused:
            raise NotAuthenticated(refused.reason, challenges=(self.challenge,)) from None

    async def open(self) -> None:
        """Begin to write when keys were last used.

        Raises:
            SettingsError: there is no store.
        """
        self._given_store()
        self._uses.open(self._log)

    async def close(self) -> None:
        """Write when keys were last used, and forget them."""
        for task in tuple(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        self._good.clear()
        self._bad.clear()
        self._ended.clear()
        await self._uses.close()

    async def _verify(self, credentials: Credentials, now: float) -> Principal:
        if credentials.api_key is not None and _is_api_key(credentials.authorization):
            raise Refused(Reason.AMBIGUOUS)
        key = _key_of(credentials)
        if key is None:
            raise Refused(Reason.MISSING)
        prefix = self._text.prefix_of(key)
        if prefix is None:
            raise Refused(Reason.MALFORMED)
        rejected = self._bad.find(key)
        if rejected is not None and self._clock() - rejected.read < self._known_seconds:
            raise Refused(rejected.reason)
        read = self._clock()
        # Who was good before has shown the whole key, so no guess is among them.
        record = await self._look_up(key, prefix, stranger=self._good.find(key) is None)
        try:
            principal = self._principal(key, record, now)
        except Refused as refused:
            self._bad.keep(key, Rejected(refused.reason, read))
            raise
        self._good.keep(key, Proven(principal, read))
        self._uses.open(self._log)
        self._uses.note(prefix, now)
        return principal

    def _principal(self, key: bytes, record: ApiKeyRecord | None, now: float) -> Principal:
        if record is None or not compare_digest(sha256(key).digest(), record.digest):
            raise Refused(Reason.UNKNOWN)
        if record.revoked is not None:
            raise Refused(Reason.REVOKED)
        principal = principal_of(record)
        if now >= principal.expires:
            raise Refused(Reason.EXPIRED)
        return principal

    def _is_fresh(self, proven: Proven) -> bool:
        if self._clock() - proven.read >= self._known_seconds:
            return False
        return proven.read > self._ended.get(proven.principal.credential, self._all_ended)

    async def _look_up(self, key: bytes, prefix: str, *, stranger: bool) -> ApiKeyRecord | None:
        """The record; requests with the same key that come meanwhile wait for the same answer."""
        task = self._asking.get(key)
        if task is None:
            if stranger and self._waiting >= MAX_WAITING:
                raise StoreUnavailable("Too many unknown API keys are being looked up. Send the request again.")
            self._waiting += stranger
            task = asyncio.create_task(self._ask(prefix, stranger=stranger), name=f"look up API key {prefix}")
            self._asking[key] = task
            task.add_done_callback(lambda done: self._asked(key, done, stranger=stranger))
        # One request that is cancelled does not end the look-up of the others.
        await asyncio.wait({task})
        if task.cancelled():
            raise StoreUnavailable  # closing
        return task.result()

    async def _ask(self, prefix: str, *, stranger: bool) -> ApiKeyRecord | None:
        store = self._given_store()
        if not stranger:
            return await store.find(prefix)
        try:
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                await self._strangers.acquire()
        except TimeoutError:
            raise StoreUnavailable from None
        try:
            return await store.find(prefix)
        finally:
            self._strangers.release()

    def _asked(self, key: bytes, task: "asyncio.Task[ApiKeyRecord | None]", *, stranger: bool) -> None:
        self._asking.pop(key, None)
        self._waiting -= stranger
        if not task.cancelled():
            task.exception()  # seen: whoever asked may have gone

    def _forget(self, prefix: str | None = None) -> None:
        """What was read of the key until now is not good any more: a look-up under way may have read it too."""
        now = self._clock()
        if prefix is not None and len(self._ended) >= MAX_ENDED:
            self._ended = {ended: at for ended, at in self._ended.items() if now - at < self._known_seconds}
        if prefix is None or len(self._ended) >= MAX_ENDED:
            self._all_ended = now
            self._ended.clear()
        else:
            self._ended[prefix] = now


def principal_of(record: ApiKeyRecord) -> Principal:
    """The caller that a key stands for."""
    return Principal(
        subject=record.subject,
        kind=Kind.KEY,
        scopes=frozenset(record.scopes),
        tenant=record.tenant,
        credential=record.prefix,
        expires=math.inf if record.expires is None else record.expires,
    )


def _is_api_key(authorization: bytes | None) -> bool:
    return authorization is not None and authorization[: len(SCHEME)].lower() == SCHEME


def _key_of(credentials: Credentials) -> bytes | None:
    """The key as it came; None if there is none, or one in both places."""
    authorization = credentials.authorization
    if not _is_api_key(authorization):
        return credentials.api_key
    assert authorization is not None
    return authorization[len(SCHEME) :].strip(b" ") if credentials.api_key is None else None
