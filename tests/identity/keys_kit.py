"""What the tests of API keys share: a clock, a store that is watched, and a refusal's reason."""

import asyncio
import time
from collections.abc import Mapping

import pytest

from workhorse.contracts import ApiKeyRecord
from workhorse.errors import StoreUnavailable
from workhorse.identity import ApiKeys, Credentials, NewKey, NotAuthenticated
from workhorse.state.memory.api_keys import MemoryApiKeys


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Watched(MemoryApiKeys):
    """The store in memory, with a note of what it is asked, and a gate that can be shut."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.noted: list[dict[str, float]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.away = False

    async def find(self, prefix: str) -> ApiKeyRecord | None:
        self.asked.append(prefix)
        found = await super().find(prefix)
        await self.gate.wait()
        if self.away:
            raise StoreUnavailable
        return found

    async def note_use(self, uses: Mapping[str, float]) -> None:
        await self.gate.wait()
        if self.away:
            raise StoreUnavailable
        self.noted.append(dict(uses))
        await super().note_use(uses)


def shown(key: NewKey | str) -> Credentials:
    return Credentials(api_key=(key if isinstance(key, str) else key.text).encode())


async def refused(keys: ApiKeys, credentials: Credentials, now: float | None = None) -> str:
    with pytest.raises(NotAuthenticated) as caught:
        await keys.verify(credentials, time.time() if now is None else now)
    assert caught.value.headers == ((b"www-authenticate", b'ApiKey realm="api"'),)
    return caught.value.reason.value
