"""What the server says of a commit that its synchronous standby may not have.

A COMMIT under synchronous replication waits for the standby. If somebody ends that wait (`pg_cancel_backend`), the
server answers COMMIT all the same: the transaction stands here, and a failover may lose it. Nothing but a warning
beside the answer tells. It is known by the server's function that writes it, since its words may be in any language.
"""

from typing import Any, Final

from workhorse.errors import OutcomeUnknown

__all__ = ["Notices", "not_replicated"]

# In src/backend/replication/syncrep.c, under this name since PostgreSQL 9.1. All that it reports is a wait given up.
SOURCE: Final = "SyncRepWaitForLSN"
# psycopg2 passes on a text only.
WORDS: Final = "canceling wait for synchronous replication"


class Notices:
    """Listens to the server while it commits."""

    __slots__ = ("gave_up",)

    def __init__(self) -> None:
        self.gave_up = False
        """Whether the server has committed without waiting for its standby."""

    def of_psycopg(self, diagnostic: Any) -> None:
        """Listen as psycopg's notice handler."""
        self.gave_up |= diagnostic.source_function == SOURCE

    def of_asyncpg(self, _connection: Any, message: Any) -> None:
        """Listen as asyncpg's log listener."""
        self.gave_up |= message.as_dict().get("server_source_function") == SOURCE

    def of_texts(self, texts: list[str]) -> None:
        """Listen to what psycopg2 has collected, which is known in English only."""
        self.gave_up |= any(WORDS in text for text in texts)


def not_replicated() -> OutcomeUnknown:
    """What is told of a commit that a failover may lose."""
    return OutcomeUnknown(
        "The request took effect, but the wait for the standby was ended by an administrator: a failover may lose it."
        " With an Idempotency-Key, send it again."
    )
