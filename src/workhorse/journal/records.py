"""What an audited request leaves in the journal: one event, whose type says how it ended.

| type | when | stored |
|---|---|---|
| `audit.read`, `audit.write` | it was done, and its unit, where it had one that writes, committed | with the unit |
| `audit.connected` | a WebSocket was accepted | beside, before the client is told if `fail_closed` |
| `audit.repeated` | a retried Idempotency-Key was answered with its first reply; nothing was done | beside |
| `audit.denied` | it was refused: 401, 403, 429, or by a check of the guard | beside |
| `audit.failed` | it got another reply of 400 or above, or none | beside |

"Beside" is by the trail (`journal.trail`), because nothing of the request commits with which the record could.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from workhorse.audited import Audit, Template
from workhorse.context import CURRENT
from workhorse.journal.events import Event
from workhorse.policy import Policy

__all__ = ["RecordRule", "record_rules"]

READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
DENIED: Final = frozenset({401, 403, 407, 429})
CLIENT_ERROR: Final = 400


class RecordRule:
    """What is recorded of one policy's requests.

    Args:
        policy: one that is audited.
        audit: what it asks for.
    """

    __slots__ = ("_action", "_pattern", "_reads", "_subject", "fail_closed", "models")

    def __init__(self, policy: Policy, audit: Audit) -> None:
        self._pattern: Final = policy.pattern
        self._action: Final = audit.action or policy.pattern
        self._reads: Final = audit.reads
        self._subject: Final[Template] = policy.audited_subject
        self.fail_closed: Final = audit.fail_closed
        self.models: Final = tuple(audit.models)

    @property
    def wants_body(self) -> bool:
        """Whether a record names what the request's body says."""
        return self._subject.needs_body

    def done(
        self, method: str, path: str, status: int, *, body: bytes | None = None, reply: bytes | None = None
    ) -> Event:
        """The record of a request that was done.

        Args:
            method: of the request.
            path: as the policy was found by.
            status: of the reply. 400 and above: the handler has refused, and said that its unit is to be kept.
            body: of the request, if it is known.
            reply: its body, if it is known.
        """
        subject = self._subject.fill(path, body=body, reply=reply)
        if status >= CLIENT_ERROR:
            return self._event(_refusal(status), subject, "kept", status)
        reads = method in READING if self._reads is None else self._reads
        return self._event("audit.read" if reads else "audit.write", subject, "done", status)

    def connected(self, path: str) -> Event:
        """The record of a WebSocket that was accepted."""
        return self._event("audit.connected", self._subject.fill(path), "connected", 101)

    def repeated(self, path: str, status: int) -> Event:
        """The record of a request that was answered with the reply that was kept for its key."""
        return self._event("audit.repeated", self._subject.fill(path), "repeated", status)

    def not_done(self, path: str, status: int, *, control: str = "", outcome: str = "") -> Event:
        """The record of a request that was refused or failed.

        Args:
            path: as the policy was found by.
            status: of the reply; 0: there was none.
            control: the check of the guard that refused it.
            outcome: what is known beside, such as `unknown` of a commit that was not answered.
        """
        denied = bool(control) or status in DENIED
        kind = "audit.denied" if denied else "audit.failed"
        return self._event(kind, self._subject.fill(path), outcome or kind[6:], status, control=control)

    def _event(self, kind: str, subject: str, outcome: str, status: int, *, control: str = "") -> Event:
        data: dict[str, object] = {"action": self._action, "route": self._pattern, "outcome": outcome, "status": status}
        if control:
            data["control"] = control
        request = CURRENT.get(None)
        if request is not None:
            data["client"] = request.client
            data["known_by"] = request.principal.kind.value
            if request.principal.tenant:
                data["tenant"] = storable(request.principal.tenant)
        return Event.of(kind, subject=subject, data=data)


def record_rules(policies: Iterable[Policy]) -> Mapping[str, RecordRule]:
    """The rules of the policies that are audited, by their patterns.

    Raises:
        SettingsError: the template of a subject is malformed.
    """
    return {policy.pattern: RecordRule(policy, policy.audited) for policy in policies if policy.audited is not None}


def storable(text: str) -> str:
    """The text as Postgres can keep it, whatever an issuer has put into it."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _refusal(status: int) -> str:
    return "audit.denied" if status in DENIED else "audit.failed"
