"""What a route asks of the platform, in one line a route, and the table that finds the line for a request.

    Policy("POST /transfers", scope="transfers:write", rate="600/minute", idempotent="required")
    Policy("POST /payments/pain001", scope="transfers:write", max_body_bytes=10 * 1024 * 1024, deadline=60)
    Policy("GET /prices", public=True, rate=[Rate("10/second", burst=20, per="address"), "10000/day"], priority="low")

The pattern is a method (or `*`) and a path whose `{name}` segments match any one segment, and a last `{name:path}` any
number of them, as in the path templates of FastAPI. The table is built once; a request then costs one look-up for a
path without parameters, and a short walk over the patterns of the same length for one with. Where several match, the
one wins that is literal at the first place where they differ, as in routers that are tries; `{name:path}` comes last.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

from workhorse.audited import Audit, Template, compile_subject
from workhorse.contracts import Isolation
from workhorse.errors import SettingsError
from workhorse.rate import Rate

__all__ = ["Idempotent", "Policy", "PolicyTable", "Priority"]

Idempotent: TypeAlias = Literal[False, True, "required"]

Priority: TypeAlias = Literal["critical", "high", "normal", "low"]
"""What is served first when not all can be: `low` is shed first, `critical` last."""

_PATTERN: Final = re.compile(r"^(?P<method>[A-Z]+|\*) (?P<path>/\S*)\Z")
_PARAMETER: Final = re.compile(r"^\{[A-Za-z_]\w*(:[a-z]+)?\}\Z")
_REST: Final = re.compile(r"^\{[A-Za-z_]\w*:path\}\Z")
# RFC 6749, section 3.3: printable ASCII but for quote, backslash and blank.
_SCOPE: Final = re.compile(r"^[\x21\x23-\x5b\x5d-\x7e]{1,200}\Z")
_UNDECODED: Final = re.compile(r"[?#]|%[0-9A-Fa-f]{2}")
MAX_DEADLINE_SECONDS: Final = 86_400
# Each costs a counter per request.
MAX_RATES: Final = 4
_MEDIA_TYPE: Final = re.compile(r"^[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+*-]+\Z")


@dataclass(frozen=True, slots=True)
class Policy:
    """What one route asks for.

    Args:
        pattern: a method and a path, such as `POST /transfers/{id}/reversal`. `*` stands for any method.
        scope: what the caller must be allowed to do; several: all of them. Needs an identity.
        public: anybody may call it. Without this and once an identity is configured, callers must be known.
        rate: how often it may be called: `600/minute`, a `Rate`, or several.
        idempotent: `True` answers a retried Idempotency-Key with its first reply; `"required"` also refuses a request
            without one.
        isolation: what the route's transactions see of others' commits, where it is not the database's default.
        read_only: the route's transactions cannot write, and are begun on the replica where there is one.
        batched: the handler hands its command to a `@batched` function, which then claims the Idempotency-Key.
        fast: call the handler past its framework's routing, where that changes nothing else (FastAPI; a path without
            parameters, one JSON body, one result). A route that needs more is refused at start-up.
        audit: record each request in the journal, with who, what, about whom and how it ended: `True`, or an `Audit`
            that says more.
        priority: what is served first under overload.
        deadline: seconds until the reply must have begun, where it differs from `guard.deadline_seconds`.
        max_body_bytes: the largest body of this route, where it differs from `guard.max_body_bytes`.
        content_types: the media types of bodies that it takes; none: any.
        cancel_on_disconnect: end the request when its client goes away. What it did in its unit is rolled back.
        encoded_slashes: take `%2F` inside of a path segment, which is refused elsewhere.
        double_escapes: take a path that still holds an escape when it is decoded, such as `%2540`, which is refused
            elsewhere. The app must not decode it once more before it looks for files or rights.
        insecure_cross_site: take requests that other sites' pages send with the user's cookies. For a webhook or a
            callback that proves its sender by other means.

    Raises:
        SettingsError: the pattern or a value is malformed.
    """

    pattern: str
    scope: str | Sequence[str] = field(default=(), kw_only=True)
    public: bool = field(default=False, kw_only=True)
    rate: str | Rate | Sequence[str | Rate] = field(default=(), kw_only=True)
    idempotent: Idempotent = field(default=False, kw_only=True)
    isolation: Isolation | None = field(default=None, kw_only=True)
    read_only: bool = field(default=False, kw_only=True)
    batched: bool = field(default=False, kw_only=True)
    fast: bool = field(default=False, kw_only=True)
    audit: bool | Audit = field(default=False, kw_only=True)
    priority: Priority = field(default="normal", kw_only=True)
    deadline: float | None = field(default=None, kw_only=True)
    max_body_bytes: int | None = field(default=None, kw_only=True)
    content_types: Sequence[str] = field(default=(), kw_only=True)
    cancel_on_disconnect: bool = field(default=False, kw_only=True)
    encoded_slashes: bool = field(default=False, kw_only=True)
    double_escapes: bool = field(default=False, kw_only=True)
    insecure_cross_site: bool = field(default=False, kw_only=True)

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
        for fault in self._faults():
            raise SettingsError(f"the policy {self.pattern!r} {fault}")
        if self.audited is not None:
            try:
                _ = self.audited_subject
            except SettingsError as error:
                raise SettingsError(f"the policy {self.pattern!r}: {error}") from None

    def _faults(self) -> Iterable[str]:
        """What is wrong with the values, beside the pattern."""
        if self.max_body_bytes is not None and (type(self.max_body_bytes) is not int or self.max_body_bytes < 0):
            yield f"has max_body_bytes={self.max_body_bytes!r}; it is a whole number, and not negative"
        if self.deadline is not None and (
            type(self.deadline) not in {int, float} or not 0 < self.deadline <= MAX_DEADLINE_SECONDS
        ):
            yield f"has deadline={self.deadline!r}; it is in seconds, more than 0 and at most a day"
        for name in (
            "public",
            "batched",
            "fast",
            "cancel_on_disconnect",
            "encoded_slashes",
            "double_escapes",
            "insecure_cross_site",
        ):
            if type(getattr(self, name)) is not bool:
                yield f"has {name}={getattr(self, name)!r}; it is True or False"
        if _UNDECODED.search(self.path):
            yield "has a query, a fragment or a percent-encoded character in its path; write the path as it is decoded"
        if self.priority not in {"critical", "high", "normal", "low"}:
            yield f"has priority={self.priority!r}; it is critical, high, normal or low"
        yield from self._unit_faults()
        if self.public and self.scopes:
            yield "is public and asks for a scope; take one of the two out"
        for scope in self.scopes:
            if not _SCOPE.match(scope):
                yield f"has the scope {scope!r}; a scope is one word, and several are a list"
        for media_type in self.content_types:
            if not _MEDIA_TYPE.match(media_type):
                yield f"has the content type {media_type!r}; write for example `application/json`"
        if len(self.rates) > MAX_RATES:
            yield f"has {len(self.rates)} rates; at most {MAX_RATES} are counted"

    def _unit_faults(self) -> Iterable[str]:
        """What is wrong with what is asked of the unit, and of its record."""
        if type(self.audit) not in {bool, Audit}:
            yield f"has audit={self.audit!r}; it is True, False or an Audit"
        if self.idempotent not in {False, True, "required"}:
            yield f'has idempotent={self.idempotent!r}; it is True, False or "required"'
        if self.isolation is not None and self.isolation not in get_args(Isolation):
            yield f"has isolation={self.isolation!r}; it is {', '.join(get_args(Isolation))}"
        if self.read_only and self.idempotent:
            yield "is read only and takes an Idempotency-Key, whose reply it could not keep; take one of the two out"
        if self.batched and isinstance(self.audit, Audit) and self.audit.models:
            yield "is batched, and a batch has no session whose models could be recorded: take the models out"
        if self.batched and (self.isolation is not None or self.read_only):
            yield "is batched, and a batch is one transaction for many: take isolation and read_only out"

    @property
    def scopes(self) -> frozenset[str]:
        """What the caller must be allowed to do."""
        return frozenset((self.scope,) if isinstance(self.scope, str) else self.scope)

    @property
    def rates(self) -> tuple[Rate, ...]:
        """How often it may be called.

        Raises:
            SettingsError: one is malformed.
        """
        given = (self.rate,) if isinstance(self.rate, str | Rate) else self.rate
        return tuple(Rate(rate) if isinstance(rate, str) else rate for rate in given)

    @property
    def audited(self) -> Audit | None:
        """What is recorded of its requests; None: nothing."""
        if isinstance(self.audit, Audit):
            return self.audit
        return Audit() if self.audit else None

    @property
    def audited_subject(self) -> Template:
        """Whom its records are about.

        Raises:
            SettingsError: the template is malformed.
        """
        return compile_subject("" if self.audited is None else self.audited.subject, self.segments)

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

    HEAD is answered by what answers GET (RFC 9110, section 9.3.2), so it has GET's policy unless it has its own.

    Raises:
        SettingsError: two policies have the same pattern, parameter names aside.
    """

    def __init__(self, policies: Iterable[Policy] = ()) -> None:
        self._policies = tuple(policies)
        seen: dict[tuple[str, tuple[str, ...]], Policy] = {}
        for policy in self._policies:
            shape = tuple(
                "{rest}" if _REST.match(segment) else "{}" if segment.startswith("{") else segment
                for segment in policy.segments
            )
            twin = seen.setdefault((policy.method, shape), policy)
            if twin is not policy:
                raise SettingsError(
                    f"the policies {twin.pattern!r} and {policy.pattern!r} match the same requests; keep one"
                )
        self._exact = {(policy.method, policy.path): policy for policy in self._policies if "{" not in policy.path}
        for (method, path), policy in list(self._exact.items()):
            if method == "GET":
                self._exact.setdefault(("HEAD", path), policy)
        methods = {policy.method for policy in self._policies} | {"HEAD"}
        self._templates = {method: _Templates(self._policies, method) for method in methods}
        self._any = _Templates(self._policies, "*")

    def __iter__(self) -> Iterator[Policy]:
        """The policies in the order in which they were written."""
        return iter(self._policies)

    def find(self, method: str, path: str) -> Policy | None:
        """Return the policy that matches best, or None."""
        exact = self._exact.get((method, path))
        if exact is not None:
            return exact
        return self._templates.get(method, self._any).find(path)

    def methods(self, path: str) -> list[str]:
        """The methods that have a policy for this path, sorted: what a reply of 405 names in Allow."""
        return sorted(method for method in {policy.method for policy in self._policies} if self.find(method, path))


class _Templates:
    """The policies of one method that a path cannot be looked up for, as one regular expression.

    One group a policy, the most literal first: the first group that matches is the policy that matches best.
    """

    def __init__(self, policies: Iterable[Policy], method: str) -> None:
        methods = ("HEAD", "GET", "*") if method == "HEAD" else (method, "*")
        self._policies = sorted(
            (policy for policy in policies if policy.method in methods and _open(policy)),
            key=lambda policy: (*_rank(policy), methods.index(policy.method)),
        )
        self._find = re.compile("|".join(f"({_expression(policy)})" for policy in self._policies), re.DOTALL).fullmatch

    def find(self, path: str) -> Policy | None:
        if not self._policies:
            return None
        match = self._find(path)
        return self._policies[match.lastindex - 1] if match is not None and match.lastindex else None


def _open(policy: Policy) -> bool:
    """Whether more than one method and path match."""
    return policy.method == "*" or "{" in policy.path


def _rank(policy: Policy) -> tuple[int, ...]:
    """Small for the policies that are to be tried first: at each place a literal, any segment, all the rest."""
    return tuple(2 if _REST.match(segment) else int(segment.startswith("{")) for segment in policy.segments)


def _expression(policy: Policy) -> str:
    parts = [
        ".*" if _REST.match(segment) else "[^/]+" if segment.startswith("{") else re.escape(segment)
        for segment in policy.segments
    ]
    return "/" + "/".join(parts)
