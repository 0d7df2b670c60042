"""Django's cache framework on the service's own store: Redis or Valkey where there is one, else Postgres.

    CACHES = {"default": {"BACKEND": "workhorse.integrations.django.cache.WorkhorseCache"}}

What Django promises is kept over all processes: `add` is done by one, `incr` loses nothing, `clear` empties this cache
at once and no other. LOCATION may be the URL of a server of its own; else `cache.url` and `cache.store` say where.

Values are pickled, as in all of Django's backends, and each is signed for its key with SECRET_KEY: who can write into
the store can run nothing here. What is not signed, or was signed with a key that is in neither SECRET_KEY nor
SECRET_KEY_FALLBACKS, counts as missing.
"""

import asyncio
import logging
import pickle
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from hashlib import blake2b, sha256
from hmac import compare_digest
from secrets import token_bytes
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from django.apps import apps
from django.conf import settings
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.core.exceptions import ImproperlyConfigured

from workhorse.contracts import CacheEntry, CacheHit, CacheStore
from workhorse.errors import StoreUnavailable

if TYPE_CHECKING:
    from workhorse.integrations.django.cache_line import CacheLine

__all__ = ["WorkhorseCache"]

T = TypeVar("T")

# Django has no types.
DJANGO_APPS: Final[Any] = apps
DJANGO_SETTINGS: Final[Any] = settings
MISSET: Final = cast("type[Exception]", ImproperlyConfigured)

MAC_BYTES: Final = 16
# What `timeout=None` means here: a store forgets after so long (`state.redis.cache.TAG_SECONDS`).
MOST_SECONDS: Final = 30 * 86_400.0
MAX_VALUE_BYTES: Final = 8 * 1024 * 1024
# One call of a store takes so many.
AT_ONCE: Final = 1_000
# For how long one who changes a value has it for itself, and how often others ask for it.
CHANGE_SECONDS: Final = 5.0
CHANGE_TRIES: Final = 200
LONGEST_PAUSE_SECONDS: Final = 0.02
OPTIONS: Final = ("away", "max_value_bytes")

NOTHING: Final[dict[str, Any]] = {}

logger = logging.getLogger(__name__)


class WorkhorseCache(BaseCache):  # type: ignore[misc]  # Django has no types
    """A backend for CACHES.

    OPTIONS may have `away`: `"raise"` (StoreUnavailable, a 503) or `"bypass"` (nothing is found, nothing is kept), for
    when the store does not answer; and `max_value_bytes`, above which a value is not kept (8 MiB).

    Raises:
        ImproperlyConfigured: an option is unknown or malformed, or "workhorse.integrations.django" is not installed.
    """

    def __init__(self, location: str, params: Mapping[str, Any]) -> None:
        super().__init__(params)
        options = {str(name).lower(): value for name, value in params.get("OPTIONS", {}).items()}
        unknown = [name for name in options if name not in {*OPTIONS, "max_entries", "cull_frequency"}]
        if unknown:
            raise MISSET(f"CACHES: OPTIONS has {', '.join(unknown)}; it may have {', '.join(OPTIONS)}")
        self._away: str = options.get("away", "raise")
        if self._away not in {"raise", "bypass"}:
            raise MISSET(f"CACHES: OPTIONS['away'] is {self._away!r}; it is 'raise' or 'bypass'")
        self._max_bytes = int(options.get("max_value_bytes", MAX_VALUE_BYTES))
        if not DJANGO_APPS.is_installed("workhorse.integrations.django"):
            raise MISSET("CACHES: WorkhorseCache needs 'workhorse.integrations.django' in INSTALLED_APPS")
        # Django makes an instance for each thread; the connections are the process's.
        self._line: CacheLine = DJANGO_APPS.get_app_config("workhorse").cache_line(location or "")
        self._keys = _mac_keys()
        # All entries of this cache, for `clear`. Caches of one KEY_PREFIX share their keys, as everywhere in Django.
        self._tags = (f"django:{params.get('KEY_PREFIX', '')}",)

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        """The value, or `default`."""
        return self._wait(self._get, [self._name(key, version)], otherwise=NOTHING).get(
            self._name(key, version), default
        )

    async def aget(self, key: str, default: Any = None, version: int | None = None) -> Any:
        """As `get`."""
        name = self._name(key, version)
        return (await self._await(self._get, [name], otherwise=NOTHING)).get(name, default)

    def get_many(self, keys: Iterable[str], version: int | None = None) -> dict[str, Any]:
        """The values that are there, by key."""
        names = {self._name(key, version): key for key in keys}
        return {names[name]: value for name, value in self._wait(self._get, list(names), otherwise=NOTHING).items()}

    async def aget_many(self, keys: Iterable[str], version: int | None = None) -> dict[str, Any]:
        """As `get_many`."""
        names = {self._name(key, version): key for key in keys}
        return {
            names[name]: value for name, value in (await self._await(self._get, list(names), otherwise=NOTHING)).items()
        }

    def has_key(self, key: str, version: int | None = None) -> bool:
        """Whether there is a value."""
        return bool(self._wait(self._get, [self._name(key, version)], otherwise=NOTHING))

    async def ahas_key(self, key: str, version: int | None = None) -> bool:
        """As `has_key`."""
        return bool(await self._await(self._get, [self._name(key, version)], otherwise=NOTHING))

    def set(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """Keep the value, whatever was there."""
        self.set_many({key: value}, timeout, version)

    async def aset(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:  # noqa: ASYNC109
        """As `set`."""
        await self.aset_many({key: value}, timeout, version)

    def set_many(
        self, data: Mapping[str, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[str]:
        """Keep several. Returns the keys of those that are not kept."""
        names = {self._name(key, version): key for key in data}
        values = {name: data[key] for name, key in names.items()}
        return [names[name] for name in self._wait(self._set, values, self._seconds(timeout), otherwise=list(values))]

    async def aset_many(
        self,
        data: Mapping[str, Any],
        timeout: Any = DEFAULT_TIMEOUT,  # noqa: ASYNC109 - the signatures are Django's
        version: int | None = None,
    ) -> list[str]:
        """As `set_many`."""
        names = {self._name(key, version): key for key in data}
        values = {name: data[key] for name, key in names.items()}
        lost = await self._await(self._set, values, self._seconds(timeout), otherwise=list(values))
        return [names[name] for name in lost]

    def add(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Keep the value if there is none. Of all who try at once, one gets True."""
        return self._wait(self._add, self._name(key, version), value, self._seconds(timeout), otherwise=False)

    async def aadd(self, key: str, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:  # noqa: ASYNC109
        """As `add`."""
        return await self._await(self._add, self._name(key, version), value, self._seconds(timeout), otherwise=False)

    def touch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Keep the value for another while. False: there is none."""
        return self._wait(self._touch, self._name(key, version), self._seconds(timeout), otherwise=False)

    async def atouch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:  # noqa: ASYNC109
        """As `touch`."""
        return await self._await(self._touch, self._name(key, version), self._seconds(timeout), otherwise=False)

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> Any:
        """Add to the value, and return the sum. None of those who do so at once is lost.

        Raises:
            ValueError: there is no value.
        """
        return self._sum(key, self._wait(self._incr, self._name(key, version), delta, otherwise=None))

    async def aincr(self, key: str, delta: int = 1, version: int | None = None) -> Any:
        """As `incr`."""
        return self._sum(key, await self._await(self._incr, self._name(key, version), delta, otherwise=None))

    def delete(self, key: str, version: int | None = None) -> bool:
        """Forget the value. False: there was none."""
        return self._wait(self._delete, [self._name(key, version)], otherwise=False)

    async def adelete(self, key: str, version: int | None = None) -> bool:
        """As `delete`."""
        return await self._await(self._delete, [self._name(key, version)], otherwise=False)

    def delete_many(self, keys: Iterable[str], version: int | None = None) -> None:
        """Forget several."""
        self._wait(self._delete, [self._name(key, version) for key in keys], otherwise=False)

    async def adelete_many(self, keys: Iterable[str], version: int | None = None) -> None:
        """As `delete_many`."""
        await self._await(self._delete, [self._name(key, version) for key in keys], otherwise=False)

    def clear(self) -> None:
        """Forget all that is in this cache."""
        self._wait(self._clear, otherwise=None)

    async def aclear(self) -> None:
        """As `clear`."""
        await self._await(self._clear, otherwise=None)

    # What is done in the line's own loop. Names are made, values are the app's.

    async def _get(self, store: CacheStore, names: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for some in _some(names, AT_ONCE):
            for name, hit in zip(some, await store.get(some), strict=True):
                found.update(self._open(name, hit))
        return found

    async def _set(self, store: CacheStore, values: Mapping[str, Any], seconds: float) -> list[str]:
        if seconds <= 0:
            await self._delete(store, list(values))
            return []
        sealed = {name: self._seal(name, value) for name, value in values.items()}
        lost = [name for name, data in sealed.items() if len(data) > self._max_bytes]
        if lost:
            logger.warning("%d values of more than %d bytes were not kept", len(lost), self._max_bytes)
            await self._delete(store, lost)
        entries = [CacheEntry(name, data, seconds, self._tags) for name, data in sealed.items() if name not in lost]
        for some in _some(entries, AT_ONCE):
            await store.set(some)
        return lost

    async def _delete(self, store: CacheStore, names: Sequence[str]) -> bool:
        found = False
        for some in _some(names, AT_ONCE):
            found = any(await store.get(some)) or found
            await store.delete(some)
        return found

    async def _clear(self, store: CacheStore) -> None:
        await store.delete((), tags=self._tags)

    async def _add(self, store: CacheStore, name: str, value: Any, seconds: float) -> bool:
        data = self._seal(name, value)
        answer = await store.claim(name, self._tags, token=token_bytes(16), seconds=CHANGE_SECONDS)
        if answer.claim is None:  # another is there just now
            return False
        if self._open(name, answer.hit) or seconds <= 0 or len(data) > self._max_bytes:
            await store.abandon(name, answer.claim)
            return False
        return await store.fill(CacheEntry(name, data, seconds, self._tags), answer.claim)

    async def _touch(self, store: CacheStore, name: str, seconds: float) -> bool:
        if seconds <= 0:
            return await self._delete(store, [name])
        return await self._change(store, name, lambda value: value, seconds) is not None

    async def _incr(self, store: CacheStore, name: str, delta: int) -> tuple[Any] | None:
        return await self._change(store, name, lambda value: value + delta, None)

    async def _change(
        self, store: CacheStore, name: str, step: Callable[[Any], Any], seconds: float | None
    ) -> tuple[Any] | None:
        """Put what `step` makes of the value into its place, and return it; None: there is no value.

        Who changes a value has claimed it, and a claim ends when somebody sets or deletes it: so nothing is lost.
        """
        for _ in range(CHANGE_TRIES):
            answer = await store.claim(name, self._tags, token=token_bytes(16), seconds=CHANGE_SECONDS)
            if answer.claim is not None:
                found = self._open(name, answer.hit)
                if not found or answer.hit is None:
                    await store.abandon(name, answer.claim)
                    return None
                try:
                    value = step(found[name])
                    data = self._seal(name, value)
                except BaseException:
                    await store.abandon(name, answer.claim)
                    raise
                left = answer.hit.left_seconds if seconds is None else seconds
                if await store.fill(CacheEntry(name, data, left, self._tags), answer.claim):
                    return (value,)
            await asyncio.sleep(random.uniform(0, LONGEST_PAUSE_SECONDS))  # noqa: S311 - spreads those who wait
        raise StoreUnavailable

    # Between Django's threads and the loop.

    def _wait(self, step: Callable[..., Awaitable[T]], *args: Any, otherwise: T) -> T:
        try:
            return self._send(step, args).result()
        except StoreUnavailable:
            if self._away == "raise":
                raise
            return otherwise

    async def _await(self, step: Callable[..., Awaitable[T]], *args: Any, otherwise: T) -> T:
        try:
            return await asyncio.wrap_future(self._send(step, args))
        except StoreUnavailable:
            if self._away == "raise":
                raise
            return otherwise

    def _send(self, step: Callable[..., Awaitable[T]], args: Sequence[Any]) -> Future[T]:
        return self._line.send(lambda store: step(store, *args))

    def _name(self, key: str, version: int | None) -> str:
        return f"django:{cast('Any', self).make_and_validate_key(key, version=version)}"

    def _seconds(self, timeout: Any) -> float:
        seconds = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        return MOST_SECONDS if seconds is None else min(float(seconds), MOST_SECONDS)

    def _seal(self, name: str, value: Any) -> bytes:
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        return _mac(self._keys[0], name, data) + data

    def _open(self, name: str, hit: CacheHit | None) -> dict[str, Any]:
        """The name and value of what was found, if it is ours; else nothing."""
        if hit is None:
            return NOTHING
        mac, data = hit.data[:MAC_BYTES], hit.data[MAC_BYTES:]
        if any(compare_digest(mac, _mac(key, name, data)) for key in self._keys):
            try:
                return {name: pickle.loads(data)}  # noqa: S301 - signed by this project
            except Exception as error:  # noqa: BLE001 - of a class that has changed since: it is made again
                logger.warning("a cached value cannot be read, and counts as missing: %s", error)
        return NOTHING

    @staticmethod
    def _sum(key: str, made: tuple[Any] | None) -> Any:
        if made is None:
            raise ValueError(f"Key {key!r} not found")
        return made[0]


def _some(all_of_them: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(all_of_them), most):
        yield all_of_them[start : start + most]


def _mac_keys() -> list[bytes]:
    secrets = (DJANGO_SETTINGS.SECRET_KEY, *DJANGO_SETTINGS.SECRET_KEY_FALLBACKS)
    return [
        sha256(b"workhorse.cache:" + (one if isinstance(one, bytes) else str(one).encode())).digest() for one in secrets
    ]


def _mac(key: bytes, name: str, data: bytes) -> bytes:
    made = blake2b(name.encode("utf-8", "surrogatepass") + b"\0", key=key, digest_size=MAC_BYTES)
    made.update(data)
    return made.digest()
