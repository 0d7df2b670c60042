"""The keys of the project's persons, and of what is found by equality."""

import asyncio

from workhorse.privacy import BlindIndex, LocalKeys, Privacy, SubjectKeys


class KeyService(LocalKeys):
    """Keys of a service that answers in a while, as AWS' does."""

    async def wrap(self, key: bytes, subject: str) -> bytes:
        await asyncio.sleep(0.001)
        return await super().wrap(key, subject)

    async def unwrap(self, wrapped: bytes, by: str, subject: str) -> bytes:
        await asyncio.sleep(0.001)
        return await super().unwrap(wrapped, by, subject)


KEYS = SubjectKeys(KeyService([bytes(range(32))]))
PRIVACY = Privacy(KEYS, blind_index=BlindIndex(bytes(32)))
NO_KEYS = Privacy()
