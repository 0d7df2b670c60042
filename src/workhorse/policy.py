"""What a route asks of the platform, in one line a route, and the table that finds the line for a request.

    Policy("POST /transfers", idempotent="required")
    Policy("POST /payments/pain001", idempotent="required", max_body_bytes=10 * 1024 * 1024)

The pattern is a method (or `*`) and a path whose `{name}` segments match any one segment, and a last `{name:path}` any
number of them, as in the path templates of FastAPI. The table is built once; a request then costs one look-up for a
path without parameters, and a short walk over the patterns of the same length for one with. Where several match, the
one with more literal segments wins.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from workhorse.errors import SettingsError

__all__ = ["Idempotent", "Policy", "PolicyTable"]

Idempotent = Literal[False, True, "required"]

_PATTERN: Final = re.compile(r"^(?P<method>[A-Z]+|\*) (?P<path>/\S*)$")
_PARAMETER: Final = re.compile(r"^\{[A-Za-z_]\w*(:[a-z]+)?\}$")
_REST: Final = re.compile(r"^\{[A-Za-z_]\w*:path\}$")


@dataclass(frozen=True, slots=True)
class Policy:
    """What one route asks for.

    Args:
        pattern: a method and a path, such as `POST /transfers/{id}/reversal`. `*` stands for any method.
        idempotent: `True` answers a retried Idempotency-Key with its first reply; `"required"` also refuses a request
            without one.
        max_body_bytes: the largest body of this route, where it differs from `guard.max_body_bytes`.

    Raises:
        SettingsError: the pattern or a value is malformed.
    """

    pattern: str
    idempotent: Idempotent = field(default=False, kw_only=True)
    max_body_bytes: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not _PATTERN.match(self.pattern):
            raise SettingsError(
                f"the policy {self.pattern!r} is not `METHOD /path`;"
                " write for example `POST /transfers/{id}/reversal`"
            )
        for segment in self.segments:
            if ("{" in segment or "}" in segment) and not _PARAMETER.match(segment):
                raise SettingsError(
                    f"the policy {self.pattern!r} has the segment {segment!r};"
                    " a parameter is a whole segment: `{name}`"
                )
        if any(_REST.match(segment) for segment in self.segments[:-1]):
            raise SettingsError(f"the policy {self.pattern!r} has a `:path` parameter that is not the last segment")
        if self.max_body_bytes is not None and self.max_body_bytes < 0:
            raise SettingsError(
                f"the policy {self.pattern!r} has max_body_bytes={self.max_body_bytes}; it cannot be negative"
            )

    @property
    def method(self) -> str:
        """The method, or `*`."""
        return self.pattern.partition(" ")[0]

    @property
    def path(self) -> str:
        """The path template."""
        return self.pattern.partition(" ")[2]

    @property
    def segments(self) -> tuple[str, ...]:
        """The path template, cut at its slashes."""
        return tuple(self.path.split("/")[1:])


class PolicyTable:
    """Finds the policy for a method and a path.

    Raises:
        SettingsError: two policies have the same pattern, parameter names aside.
    """

    def __init__(self, policies: Iterable[Policy] = ()) -> None:
        self._exact: dict[tuple[str, str], Policy] = {}
        self._templates: dict[int, list[tuple[Policy, tuple[str | None, ...]]]] = {}
        self._rests: list[tuple[Policy, tuple[str | None, ...]]] = []
        seen: dict[tuple[str, tuple[str | None, ...]], Policy] = {}
        for policy in policies:
            shape = tuple(None if segment.startswith("{") else segment for segment in policy.segments)
            twin = seen.setdefault((policy.method, shape), policy)
            if twin is not policy:
                raise SettingsError(
                    f"the policies {twin.pattern!r} and {policy.pattern!r} match the same requests; keep one"
                )
            if _REST.match(policy.segments[-1]):
                self._rests.append((policy, shape[:-1]))
            elif None in shape or policy.method == "*":
                self._templates.setdefault(len(shape), []).append((policy, shape))
            else:
                self._exact[policy.method, policy.path] = policy
        for candidates in self._templates.values():
            candidates.sort(key=lambda candidate: (candidate[1].count(None), candidate[0].method == "*"))
        self._rests.sort(key=lambda candidate: (-len(candidate[1]), candidate[0].method == "*"))

    def find(self, method: str, path: str) -> Policy | None:
        """Return the policy that matches best, or None."""
        exact = self._exact.get((method, path))
        if exact is not None or not (self._templates or self._rests):
            return exact
        segments = path.split("/")[1:]
        for policy, shape in self._templates.get(len(segments), ()):
            if policy.method in {method, "*"} and _fits(shape, segments):
                return policy
        for policy, shape in self._rests:
            if policy.method in {method, "*"} and len(segments) > len(shape) and _fits(shape, segments):
                return policy
        return None


def _fits(shape: Sequence[str | None], segments: Sequence[str]) -> bool:
    """Whether the first segments are those of the shape, None standing for any."""
    return all(want is None or want == got for want, got in zip(shape, segments, strict=False))
