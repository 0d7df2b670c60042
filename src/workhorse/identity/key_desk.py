"""Makes API keys, lists them, replaces and ends them.

A key's text exists once, in what `create` and `rotate` return: the store has its SHA-256. A fast hash is enough,
because there is nothing to guess: the secret part is 256 bits of chance, not a word that somebody chose.
"""

import math
import re
import time
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from workhorse.contracts import ApiKeyRecord, ApiKeyStore, Recorder
from workhorse.errors import SettingsError
from workhorse.identity.key_text import KeyText
from workhorse.identity.texts import TextRefused, is_text
from workhorse.telemetry.log import Log

__all__ = ["KeyDesk", "NewKey"]

MAX_NAME: Final = 255
MAX_SCOPES: Final = 100
MAX_OVERLAP_SECONDS: Final = 90 * 86_400
TRIES: Final = 3
# RFC 6749, section 3.3.
_SCOPE: Final = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]{1,200}")


class NewKey(NamedTuple):
    """A key that was just made."""

    text: str
    """The key itself, to be shown once. It cannot be had again."""
    record: ApiKeyRecord

    def __repr__(self) -> str:
        """Without the key."""
        return f"<NewKey {self.record.prefix} of {self.record.subject!r}>"


class KeyDesk:
    """The keys of one store, for whoever manages them.

    Args:
        store: where the keys are.
        text: what they look like.
        log: where it is told that a key was made, replaced or ended; never the key.
    """

    def __init__(self, store: ApiKeyStore | None, text: KeyText | None = None, *, log: Log | None = None) -> None:
        self._store = store
        self._own_store = store is not None
        self._text = text if text is not None else KeyText()
        self._log = log
        self._recorder: Recorder | None = None

    async def create(
        self,
        subject: str,
        *,
        name: str,
        scopes: Iterable[str] = (),
        tenant: str = "",
        expires: float | None = None,
    ) -> NewKey:
        """Make a key.

        Args:
            subject: who calls with it.
            name: what its owner calls it, to tell it from others.
            scopes: what it may do. None: nothing that asks for a scope.
            tenant: the organisation that the caller acts for.
            expires: when it ends, in seconds since 1970. None: never, until it is revoked.

        Raises:
            StoreUnavailable: the store does not answer. If the key was kept, nobody knows its text.
            TextRefused: a text is empty, too long or not printable, a scope is malformed, or `expires` is over.
        """
        now = round(time.time(), 6)
        granted = tuple(dict.fromkeys(scopes))
        _check(subject, name, granted, tenant, expires, now)
        for _ in range(TRIES):
            key = self._new(ApiKeyRecord("", b"", subject, name, granted, tenant, now, expires, None, None))
            if await self._given_store().insert(key.record):
                await self._tell("created", key.record, name=name, scopes=list(granted))
                return key
        raise AssertionError("two keys in a row had a public part of 71 random bits that another key has")

    async def list(self, subject: str) -> Sequence[ApiKeyRecord]:
        """The subject's keys, those not revoked first, of each the newest first; at most 1,000.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        return await self._given_store().list(subject) if is_text(subject) else ()

    async def rotate(
        self, prefix: str, *, overlap_seconds: float = 86_400, expires: float | None = None, owner: str | None = None
    ) -> NewKey | None:
        """Make a key in place of another, which works on for the overlap.

        Args:
            prefix: the public part of the key to replace.
            overlap_seconds: how long both work, so that its owner can put the new one in place; at most 90 days. A key
                that may have leaked is rotated with 0, or revoked.
            expires: when the new one ends. None: it gets as long a life as the old one was made for.
            owner: whose key it has to be; name it wherever `prefix` comes from a client. None: anybody's.

        Returns:
            The new key; None if there is no such key, or it had ended.

        Raises:
            StoreUnavailable: the store does not answer. If it was done, nobody knows the new key's text.
            ValueError: the overlap is out of bounds; or, as TextRefused, `expires` is over.
        """
        if not 0 <= overlap_seconds <= MAX_OVERLAP_SECONDS:
            raise ValueError(f"overlap_seconds is {overlap_seconds:g}; it must be 0 to {MAX_OVERLAP_SECONDS}")
        store = self._given_store()
        old = await store.find(prefix) if is_text(prefix) else None
        if old is None or (owner is not None and old.subject != owner):
            return None
        now = round(time.time(), 6)
        if expires is None and old.expires is not None:
            expires = round(now + (old.expires - old.created), 6)
        _check(old.subject, old.name, old.scopes, old.tenant, expires, now)
        key = self._new(old._replace(created=now, expires=expires, revoked=None, used=None))
        if not await store.rotate(prefix, key.record, ends=round(now + overlap_seconds, 6), now=now):
            return None
        self._forget(prefix)
        await self._tell("rotated", key.record, replaces=prefix, overlap_seconds=overlap_seconds)
        return key

    async def revoke(self, prefix: str, *, owner: str | None = None) -> bool:
        """End a key.

        Args:
            prefix: its public part.
            owner: whose key it has to be; name it wherever `prefix` comes from a client. None: anybody's.

        Returns:
            False if there is no such key, or it had ended.

        Raises:
            StoreUnavailable: the store does not answer. It may have been done; revoke it again.
        """
        store = self._given_store()
        key = await store.find(prefix) if is_text(prefix) else None
        if key is None or (owner is not None and key.subject != owner):
            return False
        try:
            if not await store.revoke(prefix, at=round(time.time(), 6)):
                return False
        finally:
            self._forget(prefix)
        await self._tell("revoked", key)
        return True

    async def revoke_all(self, subject: str) -> int:
        """End all keys of a subject, such as one whose account is closed. Returns how many had not ended.

        Raises:
            StoreUnavailable: the store does not answer. It may have been done; revoke them again.
        """
        store = self._given_store()
        ended = await store.revoke_all(subject, at=round(time.time(), 6)) if is_text(subject) else 0
        self._forget()
        if self._log is not None:
            self._log.event("info", "api_key.all_revoked", subject=subject, keys=ended)
        if ended and self._recorder is not None:
            await self._recorder.record("audit.api_key_revoked", subject=subject, data={"keys": ended})
        return ended

    def _new(self, terms: ApiKeyRecord) -> NewKey:
        made = self._text.new()
        return NewKey(made.text, terms._replace(prefix=made.prefix, digest=made.digest))

    def _given_store(self) -> ApiKeyStore:
        if self._store is None:
            raise SettingsError("there is no store of API keys; name one, such as ApiKeys(PostgresApiKeys(database))")
        return self._store

    def _forget(self, prefix: str | None = None) -> None:
        """Called after a key has changed; without a prefix, any may have."""

    async def _tell(self, what: str, key: ApiKeyRecord, **fields: object) -> None:
        """Log and record what was done to a key. Where it cannot be recorded and must be, a new key is given to nobody.

        Raises:
            Problem: 503, as `contracts.Recorder` says. What was done to the key stands.
        """
        if self._log is not None:
            self._log.event("info", f"api_key.{what}", prefix=key.prefix, subject=key.subject, **fields)
        if self._recorder is not None:
            await self._recorder.record(
                f"audit.api_key_{what}", subject=key.subject, data={"prefix": key.prefix, **fields}
            )


def _check(subject: str, name: str, scopes: Sequence[str], tenant: str, expires: float | None, now: float) -> None:
    for word, text, least in (("subject", subject, 1), ("name", name, 1), ("tenant", tenant, 0)):
        if not least <= len(text) <= MAX_NAME or not text.isprintable():
            raise TextRefused(
                f"the {word} of an API key is {text[:40]!r} ({len(text)} characters); it must be {least} to {MAX_NAME}"
                " printable characters"
            )
    if len(scopes) > MAX_SCOPES:
        raise TextRefused(f"an API key has {len(scopes)} scopes; it may have {MAX_SCOPES}")
    for scope in scopes:
        if not _SCOPE.fullmatch(scope):
            raise TextRefused(
                f"{scope[:40]!r} is no scope (RFC 6749, section 3.3): printable ASCII without spaces or quotes"
            )
    if expires is not None and not (math.isfinite(expires) and expires > now):
        raise TextRefused(f"an API key would end at {expires:g} seconds since 1970, which is over or no time")
