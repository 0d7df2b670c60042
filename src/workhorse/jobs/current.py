"""The job that is being run here, as its function may know it."""

from contextvars import ContextVar
from typing import Final
from uuid import UUID

from workhorse.contracts import Database
from workhorse.jobs.arguments import encode_json, text_is_storable
from workhorse.jobs.engine import Claimed, Engine, Fence
from workhorse.jobs.errors import NoJob

__all__ = ["RUNNING", "RunningJob", "current_job"]

MAX_PROGRESS_BYTES: Final = 4_096


class RunningJob:
    """The attempt that runs this function."""

    __slots__ = ("_claimed", "database", "done_steps", "engine", "fence", "stepped", "taken_steps")

    def __init__(self, claimed: Claimed, fence: Fence, engine: Engine, database: Database) -> None:
        self._claimed = claimed
        self.fence = fence
        self.engine = engine
        self.database = database
        self.done_steps: dict[str, str] | None = None
        """The results of its steps as JSON, once they were asked for."""
        self.taken_steps: set[str] = set()
        """Names that this run has used."""
        self.stepped = False

    def __repr__(self) -> str:
        return f"<RunningJob {self.name} {self.id} attempt {self.attempt}>"

    @property
    def id(self) -> UUID:
        """The job's id."""
        return self._claimed.id

    @property
    def name(self) -> str:
        """The job's name."""
        return self._claimed.name

    @property
    def key(self) -> str | None:
        """Its ordering key."""
        return self._claimed.key

    @property
    def attempt(self) -> int:
        """How often it was begun, this time included."""
        return self._claimed.attempt

    @property
    def attempts_left(self) -> int:
        """How often it will be tried again if it fails."""
        return self._claimed.attempts_left

    @property
    def first_run(self) -> bool:
        """Whether nobody can have begun it before."""
        return not self._claimed.has_run

    async def progress(self, said: object) -> None:
        """Let operators see how far it is: at once, whether its unit commits or not.

        Args:
            said: anything that JSON can say, in at most 4 KiB.

        Raises:
            ValueError: it is something else.
        """
        encoded = encode_json(said)
        if len(encoded) > MAX_PROGRESS_BYTES or not text_is_storable(encoded):
            raise ValueError(
                f"the progress of {self.name!r} is {len(encoded)} bytes of JSON; at most {MAX_PROGRESS_BYTES} are kept,"
                " without the character U+0000"
            )
        await self.engine.progress(self.fence, encoded)


RUNNING: Final[ContextVar[RunningJob]] = ContextVar("workhorse_job")


def current_job() -> RunningJob:
    """The job that is being run here.

    Raises:
        NoJob: none is.
    """
    try:
        return RUNNING.get()
    except LookupError:
        raise NoJob from None
