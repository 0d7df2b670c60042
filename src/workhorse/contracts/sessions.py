"""Sessions that can be revoked."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

__all__ = ["SessionRecord", "SessionStore"]


class SessionRecord(NamedTuple):
    """One session as a store keeps it. Times are in seconds since 1970, by the caller's clock, to the microsecond."""

    digest: bytes
    """SHA-256 of the secret in the cookie, 32 bytes: the store never sees the secret itself."""
    public_id: str
    """Names the session to its owner; opens nothing. Rotation keeps it."""
    subject: str
    """Whose it is: the owner's `Principal.id`. At most 1,000 characters."""
    created: float
    """When the login was."""
    seen: float
    """When it was last used, as exactly as `touch` is called."""
    expires: float
    """The end, whatever is done with it."""
    idle_seconds: int
    """The end comes earlier, this long after `seen`."""
    grants: bytes
    """Who is logged in, and what the session may do, encoded. Only `rotate` changes it: a write of data cannot."""
    data: bytes
    """What the app keeps in the session, encoded."""
    version: int
    """Counts the changes of data and grants, so that none is lost: a write names the version that it read."""

    @property
    def ends(self) -> float:
        """When it ends if it is not used again."""
        return min(self.expires, self.seen + self.idle_seconds)


class SessionStore(Protocol):
    """Sessions that can be revoked. Every method raises StoreUnavailable if the store does not answer in time.

    A method may be run twice by a store that lost a connection, and then says the same as if it had run once, but
    for `delete`, `delete_one` and `delete_all`, whose second run finds less.
    """

    async def insert(self, session: SessionRecord, *, replaces: bytes | None = None) -> None:
        """Keep a new session; in the same step, end the one with the digest `replaces`, if there is one."""
        ...

    async def find(self, digest: bytes, *, now: float) -> SessionRecord | None:
        """The session, unless it is gone or over."""
        ...

    async def touch(self, digest: bytes, *, seen: float) -> None:
        """Note that it was used. Never brings back a session that is gone or over, nor an earlier time."""
        ...

    async def write(self, digest: bytes, *, data: bytes, version: int) -> bool:
        """Replace the data of version `version`; the next version is one more.

        False if it was changed meanwhile, or the session is gone: then nothing is written.
        """
        ...

    async def rotate(self, digest: bytes, fresh: SessionRecord) -> bool:
        """Replace the session by `fresh`, in one step, so that whatever ends the one from now on ends the other.

        False if it was changed since version `fresh.version - 1`, is gone, or over at `fresh.seen`: then nothing is
        kept of `fresh`.
        """
        ...

    async def delete(self, digest: bytes) -> bool:
        """End a session. False if it was gone."""
        ...

    async def delete_one(self, subject: str, public_id: str) -> bool:
        """End the subject's session of this name, rotated or not. False if the subject has none."""
        ...

    async def delete_all(self, subject: str, *, keep: str | None = None) -> int:
        """End the subject's sessions, but for the one with the public id `keep`. Returns how many it were.

        Those that were over, and not yet forgotten, may be among them.
        """
        ...

    async def list(self, subject: str, *, now: float) -> Sequence[SessionRecord]:
        """The subject's sessions that are alive, the last used first; at most 100."""
        ...

    async def purge(self, *, now: float) -> int:
        """Forget some that have ended; 0 when there are none left. A store that forgets by itself returns 0."""
        ...
