"""Asks a witness for its signature over HTTP (C2SP tlog-witness), and believes nothing else of what it answers.

A witness is another team's machine: it may be away, slow, out of step, or hostile. So an attempt has one deadline, a
reply is read to a bound and as it is (nothing is unpacked), no redirect is followed, and what counts is a signature of
the key that the settings name, over this checkpoint, of about now.
"""

import asyncio
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from workhorse.audit.checkpoints import parse_size
from workhorse.audit.faults import AuditFault
from workhorse.audit.keys import COSIGNATURE, Verifier, signed_at
from workhorse.audit.notes import Note
from workhorse.audit.witness import AddCheckpoint, take_cosignatures
from workhorse.errors import SettingsError, WorkhorseError

__all__ = ["Witness", "WitnessAway", "WitnessClient", "WitnessElsewhere", "WitnessFault", "WitnessWrong"]

MAX_REPLY: Final = 32 * 1024
"""Bytes: a hundred signature lines are half of it."""
DEADLINE_SECONDS: Final = 10.0
MAX_SKEW_SECONDS: Final = 600
"""Between a witness's clock and ours. A signature of the future would pass for fresh long after it was made."""
MAX_URL: Final = 2_000
SAID: Final = 200
"""Characters of a refusal that are shown."""


class WitnessFault(WorkhorseError):
    """A witness did not sign.

    WitnessFault
    ├── WitnessAway       no answer, in time or at all, or an error of its server
    ├── WitnessElsewhere  its last checkpoint of this log has another size
    └── WitnessWrong      it refused, or what it answered is no signature of its over this checkpoint
    """


class WitnessAway(WitnessFault):
    """No answer within the deadline, or an error of its server. It is asked again."""


class WitnessElsewhere(WitnessFault):
    """The last checkpoint that the witness signed has another size.

    Args:
        size: that size, as it says.
    """

    def __init__(self, size: int) -> None:
        super().__init__(f"it has signed {size} entries last")
        self.size = size


class WitnessWrong(WitnessFault):
    """The witness refused, or answered with something that is no signature of its over this checkpoint, of now."""


@dataclass(frozen=True, slots=True)
class Witness:
    """Who is asked, and where.

    Args:
        key: its public key.
        url: the prefix of its addresses; `/add-checkpoint` comes behind.

    Raises:
        SettingsError: the key is one of a log, or the address is not https. `http` is for this machine alone: a reply
            is signed, but a refusal is not.
    """

    key: Verifier
    url: str

    def __post_init__(self) -> None:
        if self.key.kind != COSIGNATURE:
            raise SettingsError(f"the key of the witness {self.key.name} is one of a log; a witness's is of kind 4")
        try:
            parts = urlsplit(self.url)
            _ = parts.port
        except ValueError as error:
            raise SettingsError(f"the witness's address {self.url[:SAID]!r} is malformed: {error}") from None
        secure = parts.scheme == "https" or (parts.scheme == "http" and _is_here(parts.hostname or ""))
        plain = self.url.isascii() and self.url.isprintable() and " " not in self.url and len(self.url) <= MAX_URL
        if not secure or not plain or not parts.hostname or parts.username is not None or parts.query or parts.fragment:
            raise SettingsError(
                f"the witness's address {self.url[:SAID]!r} is not https://host/path without a user, a query and a"
                " fragment; http is taken for this machine alone"
            )

    @classmethod
    def parse(cls, text: str) -> "Witness":
        """Read a witness as the settings have it: its public key, a space, and its address.

        Raises:
            SettingsError: it is none.
        """
        key, space, url = text.partition(" ")
        if not space:
            raise SettingsError(f"audit.witnesses has {text[:SAID]!r}: write the public key, a space and the address")
        try:
            return cls(Verifier.parse(key), url.strip())
        except AuditFault as error:
            raise SettingsError(f"audit.witnesses: {error}") from error


class WitnessClient:
    """Asks one witness. It keeps no connection: the next question is seconds away.

    Args:
        witness: who.
        deadline_seconds: for name, connection, request and reply together.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        witness: Witness,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.witness = witness
        self._url = f"{witness.url.rstrip('/')}/add-checkpoint"
        self._deadline = deadline_seconds
        self._clock = clock
        self._context: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return f"<WitnessClient of {self.witness.key.name} at {self.witness.url}>"

    async def ask(self, request: AddCheckpoint) -> Note:
        """Ask once, and return the checkpoint with the witness's signature.

        Raises:
            WitnessFault: it did not sign; see there.
        """
        # Only here: most services have no witness, and the import takes long.
        import httpx  # noqa: PLC0415

        try:
            async with (
                asyncio.timeout(self._deadline),
                httpx.AsyncClient(
                    verify=self._tls(), trust_env=False, follow_redirects=False, timeout=self._deadline
                ) as client,
                client.stream(
                    "POST",
                    self._url,
                    content=request.encode(),
                    headers={"content-type": "text/plain", "accept-encoding": "identity", "user-agent": "workhorse"},
                ) as reply,
            ):
                return self._judged(request.note, reply.status_code, await _bounded(reply))
        except TimeoutError:
            raise WitnessAway(f"no whole reply within {self._deadline:g} s") from None
        except (OSError, httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
            raise WitnessAway(f"{type(error).__name__}: {error}") from error

    def _judged(self, note: Note, status: int, body: bytes) -> Note:
        if status == 200:
            return self._taken(note, body)
        if status == 409:
            try:
                raise WitnessElsewhere(parse_size(body.decode("ascii", "replace").removesuffix("\n")))
            except AuditFault as error:
                raise WitnessWrong(f"it answered 409 with no size: {error}") from error
        said = re.sub(r"[^ -~]", " ", body[:SAID].decode("ascii", "replace")).strip()
        if status in {400, 403, 404, 422}:
            raise WitnessWrong(f"it refused with {status}: {said}")
        raise WitnessAway(f"it answered {status}: {said}")

    def _taken(self, note: Note, body: bytes) -> Note:
        key = self.witness.key
        try:
            taken = take_cosignatures(note, body, [key])
            signature = taken.signed_by([key]).get(key)
        except AuditFault as error:
            raise WitnessWrong(f"its reply is no signature over this checkpoint: {error}") from error
        if signature is None:
            raise WitnessWrong(f"its reply has no signature of the key {key.id.hex()} of {key.name}")
        skew = signed_at(signature.value) - int(self._clock())
        if abs(skew) > MAX_SKEW_SECONDS:
            raise WitnessWrong(f"its signature is of a time {skew} seconds from now; one of the clocks is wrong")
        return taken

    def _tls(self) -> ssl.SSLContext | bool:
        if self.witness.url.startswith("http:"):
            return True
        if self._context is None:
            self._context = ssl.create_default_context()
        return self._context


async def _bounded(reply: Any) -> bytes:
    """The body as it came, which is never longer than a list of signatures."""
    body = b""
    async for part in reply.aiter_raw():
        body += part
        if len(body) > MAX_REPLY:
            raise WitnessWrong(f"its reply has more than {MAX_REPLY} bytes")
    return body


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
