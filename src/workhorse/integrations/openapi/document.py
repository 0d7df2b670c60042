"""A document, completed: each operation is found its policy, and gets what the document does not say of it yet.

Components are added under names of their own. Where the app has something else under such a name, ours is named
`Workhorse...`; where it is the same, it is shared.
"""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

from workhorse.guard.routes import Route, RouteTable
from workhorse.identity.scheme import Identity
from workhorse.integrations.openapi.replies import (
    HEADERS,
    PROBLEM_JSON,
    PROBLEM_SCHEMA,
    ProblemReply,
    examples_of,
    replies_of,
)
from workhorse.integrations.openapi.security import requirements, security_schemes
from workhorse.integrations.routes import sample_of
from workhorse.policy import PolicyTable
from workhorse.settings import Settings

__all__ = ["Facts", "complete"]

# OpenAPI 3.1.1, section 4.8.9.
METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})

KEY_HEADER: Final = "Idempotency-Key"
KEY_SCHEMA: Final[Mapping[str, Any]] = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]*$"}
KEY_MEANING: Final = (
    "Names this request among the caller's own, such as a UUID. Sent again with the same key, it is not done again, but"
    " answered with the first reply."
)

# What an app has declared may be of any shape.
Object: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a service knows of the operations of its app."""

    policies: PolicyTable
    identity: Identity | None
    settings: Callable[[], Settings]
    """The service's settings, read when a document is asked for."""


def complete(document: Mapping[str, Any], facts: Facts, *, prefix: str = "") -> dict[str, Any]:
    """A copy of an OpenAPI 3 document that says what the service does beside the app.

    Args:
        document: as the framework makes it. It is not changed.
        facts: what the service knows.
        prefix: the path below which the app is mounted.

    Raises:
        SettingsError: the settings cannot be read.
    """
    completed: Object = deepcopy(dict(document))
    _Completion(completed, facts, prefix).run()
    return completed


class _Completion:
    """One document on its way."""

    def __init__(self, document: Object, facts: Facts, prefix: str) -> None:
        self._document = document
        self._identity = facts.identity
        self._prefix = prefix
        self._settings = facts.settings()
        self._guard = self._settings.guard
        self._table = RouteTable(
            facts.policies, max_body_bytes=self._guard.max_body_bytes, deadline_seconds=self._guard.deadline_seconds
        )
        self._version = str(document.get("openapi", "3.1.0"))
        self._schemes: list[str] = []

    def run(self) -> None:
        """Complete it in place."""
        if self._identity is not None:
            found = security_schemes(self._identity.schemes, self._settings, version=self._version)
            for name, scheme in found.items():
                self._schemes.append(self._place("securitySchemes", name, scheme))
        for path, item in _members(self._document.get("paths")):
            for method in METHODS:
                operation = item.get(method)
                if isinstance(operation, dict):
                    self._operation(cast("Object", operation), item, method.upper(), self._prefix + path)

    def _operation(self, operation: Object, item: Object, method: str, path: str) -> None:
        route = self._table.find(method, sample_of(path))
        known = self._identity is not None and not route.public
        if known and route.policy is None:
            return  # nothing is there for anybody
        has_body = "requestBody" in operation or method in WITH_BODY
        if route.content_types is not None and "requestBody" not in operation:
            content = {kind.decode(): {"schema": {"type": "string"}} for kind in sorted(route.content_types)}
            operation["requestBody"] = {"content": content}
        self._security(operation, route, known=known)
        if route.policy is not None and route.policy.idempotent:
            self._key(operation, item, required=route.policy.idempotent == "required")
        cross_site = route.cross_site or self._guard.insecure_cross_site
        for reply in replies_of(route, method, known=known, body=has_body, cross_site=cross_site):
            self._reply(operation, reply)
        self._own_replies(operation, route)
        operation["responses"] = dict(sorted(operation["responses"].items(), key=lambda one: str(one[0])))
        operation.setdefault("x-deadline-seconds", route.deadline_seconds)
        if has_body:
            operation.setdefault("x-max-body-bytes", route.max_body_bytes)
        if route.limits:
            operation.setdefault("x-rate-limits", [_limit(route, number) for number in range(len(route.limits))])

    def _security(self, operation: Object, route: Route, *, known: bool) -> None:
        """Say who may call, unless the app has said so for this operation, or for all of them."""
        if self._identity is None or "security" in operation or "security" in self._document:
            return
        if known and not self._schemes:
            return  # none that can be described, and an empty list would say that anybody may call
        scopes = sorted(route.scopes)
        operation["security"] = requirements(self._schemes, scopes, version=self._version) if known else []
        if scopes and self._version.startswith("3.0"):
            operation.setdefault("x-required-scopes", scopes)

    def _key(self, operation: Object, item: Object, *, required: bool) -> None:
        parameters = cast("list[object]", operation.get("parameters") or [])
        shared = cast("list[object]", item.get("parameters") or [])
        if any(self._is_key(parameter) for parameter in (*parameters, *shared)):
            return
        name = "IdempotencyKey" if required else "OptionalIdempotencyKey"
        parameter: Object = {
            "name": KEY_HEADER,
            "in": "header",
            "required": required,
            "description": KEY_MEANING,
            "schema": dict(KEY_SCHEMA),
        }
        operation["parameters"] = [*parameters, self._refer("parameters", name, parameter)]

    def _is_key(self, parameter: object) -> bool:
        found = self._resolved(parameter)
        return found.get("in") == "header" and str(found.get("name")).lower() == KEY_HEADER.lower()

    def _reply(self, operation: Object, reply: ProblemReply) -> None:
        """Add a reply, or what it may say to one of the same status that the app declares."""
        responses: Object = operation.setdefault("responses", {})
        status = str(reply.status)
        declared = responses.get(status)
        if declared is None:
            media = {"schema": self._problem(), "examples": examples_of(reply.kinds)}
            made: Object = {"description": reply.description, "content": {PROBLEM_JSON: media}}
            self._headers(made, reply.headers)
            responses[status] = self._refer("responses", reply.name, made)
        elif isinstance(declared, dict) and "$ref" not in declared:
            own = cast("Object", declared)
            content: Object = own.setdefault("content", {})
            if not content:
                content[PROBLEM_JSON] = {}
            told: object = content.get(PROBLEM_JSON)
            if isinstance(told, dict) and "example" not in told:
                examples: Object = cast("Object", told).setdefault("examples", {})
                for name, example in examples_of(reply.kinds).items():
                    examples.setdefault(name, example)
            self._headers(own, reply.headers)

    def _own_replies(self, operation: Object, route: Route) -> None:
        """Add to the app's own replies the headers that all replies of the route have, and the schema of problems."""
        names = ("RateLimit-Policy", "RateLimit") if route.limits else ()
        if route.policy is not None and route.policy.idempotent:
            names = (*names, "Idempotent-Replayed")
        for _, response in _members(operation["responses"]):
            if "$ref" in response:
                continue
            self._headers(response, names)
            content = response.get("content")
            media = cast("Object", content).get(PROBLEM_JSON) if isinstance(content, dict) else None
            if isinstance(media, dict):
                cast("Object", media).setdefault("schema", self._problem())

    def _headers(self, response: Object, names: tuple[str, ...]) -> None:
        if not names:
            return
        headers: Object = response.setdefault("headers", {})
        given = {name.lower() for name in headers}
        for name in names:
            if name.lower() not in given:
                headers[name] = self._refer("headers", name, HEADERS[name])

    def _problem(self) -> Object:
        return self._refer("schemas", "Problem", PROBLEM_SCHEMA)

    def _refer(self, kind: str, name: str, value: Mapping[str, Any]) -> Object:
        return {"$ref": f"#/components/{kind}/{self._place(kind, name, value)}"}

    def _place(self, kind: str, name: str, value: Mapping[str, Any]) -> str:
        """Add a component, and return the name that it got."""
        components: Object = self._document.setdefault("components", {}).setdefault(kind, {})
        if components.setdefault(name, value) != value:
            name = f"Workhorse{name[:1].upper()}{name[1:]}"
            components.setdefault(name, value)
        return name

    def _resolved(self, value: object) -> Object:
        """The component that is referred to, or the value itself; empty where it is no object."""
        found = cast("Object", value) if isinstance(value, dict) else {}
        reference = found.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/components/parameters/"):
            return found
        parameters = self._document.get("components", {}).get("parameters", {})
        resolved = parameters.get(reference.rpartition("/")[2])
        return cast("Object", resolved) if isinstance(resolved, dict) else {}


def _limit(route: Route, number: int) -> Object:
    rate = route.limits[number].rate
    return {"requests": rate.requests, "seconds": rate.period_seconds, "burst": rate.capacity, "per": rate.per}


def _members(value: object) -> Iterator[tuple[str, Object]]:
    """The members of an object that are objects themselves."""
    for name, member in cast("Object", value).items() if isinstance(value, dict) else ():
        if isinstance(member, dict):
            yield name, cast("Object", member)
