"""Every exception that Workhorse raises, but for those of single rooms, which stand in the rooms and derive from these.

    WorkhorseError
    ├── SettingsError              a setting is unknown, malformed, or unsafe in this environment
    ├── StartupError               a room could not start; the message says which, and the mend
    │   ├── EmbeddedServerError    an embedded server could not be found, started or reached
    │   └── LibraryMissing         a name was asked for that needs a library which is not installed
    ├── NoRequest                  `current_request()` was called where no request is being served
    ├── UnitError                  a unit was used where it cannot be
    │   ├── NoUnit                 `unit()` was called where no request is being served
    │   └── UnitClosed             the unit has committed, or its reply has left already
    └── Problem                    what a client is told (RFC 9457); the app derives its own from it
        ├── DatabaseUnavailable    503: the database is away; nothing was written
        ├── StoreUnavailable       503: the store of counters, sessions or keys is away; the request was not begun
        ├── DatabaseTimeout        503: a statement ran or waited too long; nothing was written
        ├── OutcomeUnknown         503: the connection was lost during COMMIT
        └── Conflict               503: other transactions won too often; nothing was written

A `Problem` is raised for the client's eyes: its text leaves the process. Every other exception is for the
operator's eyes: the client gets a bare 500, and the log gets the rest.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, NamedTuple

__all__ = [
    "Conflict",
    "DatabaseTimeout",
    "DatabaseUnavailable",
    "EmbeddedServerError",
    "Fault",
    "LibraryMissing",
    "NoRequest",
    "NoUnit",
    "OutcomeUnknown",
    "Problem",
    "SettingsError",
    "StartupError",
    "StoreUnavailable",
    "UnitClosed",
    "UnitError",
    "WorkhorseError",
]

PROBLEM_PREFIX: Final = "urn:workhorse:problem:"


class WorkhorseError(Exception):
    """The base of every exception of this package."""


class SettingsError(WorkhorseError):
    """A setting is unknown, malformed, or unsafe in this environment. The message says how to mend it."""


class StartupError(WorkhorseError):
    """A room could not start. The message says which one, with which value, and what to do next."""


class EmbeddedServerError(StartupError):
    """An embedded server could not be found, started or reached."""


class LibraryMissing(StartupError, ImportError):
    """A name was asked for that needs a library which is not installed. The message says what to install.

    It is an ImportError, too: tools that look at every name of every module, as freezegun does, pass over those.
    """


class NoRequest(WorkhorseError):
    """`current_request()` was called where no request is being served, or no guard stands around the app."""

    def __init__(self) -> None:
        super().__init__("no request is being served here: call this from a handler of an app inside Guard or Service")


class UnitError(WorkhorseError):
    """A unit was used where it cannot be."""


class NoUnit(UnitError):
    """`unit()` was called where no request is being served, or outside a `Service`."""


class UnitClosed(UnitError):
    """The unit has committed or rolled back, or the reply had left before a unit was asked for."""


class Fault(NamedTuple):
    """One thing that is wrong with what the client sent.

    `pointer` is a JSON Pointer (RFC 6901) into the body, or the name of the parameter or header;
    `reason` is a sentence for the person who has to mend it.
    """

    pointer: str
    reason: str


class Problem(WorkhorseError):
    """A refusal or failure that the client is told of, as an RFC 9457 problem document.

    An app derives one class per kind of problem, and raises it from a handler:

        class InsufficientFunds(Problem):
            status = 409
            type = "urn:bank:problem:insufficient-funds"
            title = "The debtor's balance does not cover the amount"

        raise InsufficientFunds(f"The balance of account {debtor} is below {amount}.", account=debtor)

    Args:
        detail: what happened in this one case, for the client's eyes.
        faults: what is wrong with the request, one entry each; sent as the member `errors`.
        headers: further reply headers, such as `Retry-After`.
        extensions: further members of the document (RFC 9457, section 3.2); values must be JSON.
        members: the same, as keywords.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "about:blank"
    title: ClassVar[str] = ""

    def __init__(
        self,
        detail: str = "",
        *,
        faults: Sequence[Fault] = (),
        headers: Sequence[tuple[bytes, bytes]] = (),
        extensions: Mapping[str, object] | None = None,
        **members: object,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail
        self.faults = tuple(faults)
        self.headers = tuple(headers)
        self.extensions = {**(extensions or {}), **members}


class DatabaseUnavailable(Problem):
    """The database could not be reached in time. Nothing was written; the request may be sent again."""

    status = 503
    type = PROBLEM_PREFIX + "database-unavailable"
    title = "The database cannot be reached"

    def __init__(self, detail: str = "Nothing was written. Send the request again.") -> None:
        super().__init__(detail, headers=((b"retry-after", b"1"),))


class StoreUnavailable(Problem):
    """The store of counters, sessions or keys did not answer in time. The request was not begun."""

    status = 503
    type = PROBLEM_PREFIX + "store-unavailable"
    title = "A part that this request needs cannot be reached"

    def __init__(self, detail: str = "Nothing was done. Send the request again.") -> None:
        super().__init__(detail, headers=((b"retry-after", b"1"),))


class DatabaseTimeout(Problem):
    """A statement ran or waited too long, or the handler paused too long inside its unit. Nothing was written."""

    status = 503
    type = PROBLEM_PREFIX + "database-timeout"
    title = "The database took too long"

    def __init__(self, detail: str = "Nothing was written. Send the request again later.") -> None:
        super().__init__(detail, headers=((b"retry-after", b"5"),))


class OutcomeUnknown(Problem):
    """The connection was lost while COMMIT was under way: the transaction may or may not stand.

    A request with an Idempotency-Key is safe to send again; without one the client must look first.
    """

    status = 503
    type = PROBLEM_PREFIX + "outcome-unknown"
    title = "The connection to the database was lost during the commit"

    def __init__(
        self,
        detail: str = "It is not known whether the request took effect. With an Idempotency-Key, send it again.",
    ) -> None:
        super().__init__(detail, headers=((b"retry-after", b"1"),))


class Conflict(Problem):
    """The request lost to concurrent transactions more often than it may be tried again. Nothing was written."""

    status = 503
    type = PROBLEM_PREFIX + "conflict"
    title = "The request kept conflicting with others"

    def __init__(self, attempts: int) -> None:
        super().__init__(
            f"It was tried {attempts} times. Nothing was written. Send the request again.",
            headers=((b"retry-after", b"1"),),
        )
