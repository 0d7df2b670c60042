"""FastAPI's OpenAPI document, completed by what the service knows.

FastAPI lets an app customise the document by putting a function of its own in the place of `app.openapi`. So ours goes
there too, and calls whatever was there before: FastAPI's method, or the app's function. An app that customises after
its service was made is described again when the service starts.
"""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any, Final, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError

from workhorse.integrations.fastapi import InvalidRequest, invalid_request
from workhorse.integrations.openapi import Facts, complete, problem_replies

__all__ = ["DescribedDocument", "describe"]

INVALID: Final = "422"
SCHEMAS: Final = "#/components/schemas/"
# What FastAPI declares for a route that validates anything, and the schemas that only this refers to.
FASTAPIS_OWN: Final[Mapping[str, Any]] = {"application/json": {"schema": {"$ref": f"{SCHEMAS}HTTPValidationError"}}}
FASTAPIS_SCHEMAS: Final = ("HTTPValidationError", "ValidationError")


def describe(app: object, facts: Facts, prefix: str = "") -> bool:
    """Make the document of `app` tell `facts`, if it is a FastAPI app. In the place of former facts, if there are any.

    Args:
        app: the app.
        facts: what the service knows.
        prefix: the path below which the app is mounted.
    """
    if not isinstance(app, FastAPI):
        return False
    plain: Callable[[], dict[str, Any]] = app.openapi
    if isinstance(plain, DescribedDocument):
        plain = plain.plain
    app.openapi = DescribedDocument(app, plain, facts, prefix)  # type: ignore[method-assign]
    return True


class DescribedDocument:
    """Stands where `app.openapi` was.

    Args:
        app: the app.
        plain: what was there before.
        facts: what the service knows.
        prefix: the path below which the app is mounted.
    """

    def __init__(self, app: FastAPI, plain: Callable[[], dict[str, Any]], facts: Facts, prefix: str) -> None:
        self.plain: Final = plain
        self._app = app
        self._facts = facts
        self._prefix = prefix
        self._made: tuple[dict[str, Any], dict[str, Any]] | None = None

    def __call__(self) -> dict[str, Any]:
        """The document, made again when the plain one is another than it was.

        Raises:
            SettingsError: the service's settings cannot be read.
        """
        plain = self.plain()
        made = self._made
        if made is None or made[0] is not plain:
            document = deepcopy(plain)
            if self._app.exception_handlers.get(RequestValidationError) is invalid_request:
                tell_of_our_faults(document)
            made = self._made = plain, complete(document, self._facts, prefix=self._prefix)
        return made[1]


def tell_of_our_faults(document: dict[str, Any]) -> None:
    """Where the app declares no reply to a request that fails validation, put ours into the place of FastAPI's."""
    ours = problem_replies(InvalidRequest)[InvalidRequest.status]
    for item in _objects(document.get("paths")):
        for operation in _objects(item):
            replies = cast("dict[str, Any]", operation.get("responses") or {})
            if replies.get(INVALID, {}).get("content") == FASTAPIS_OWN:
                replies[INVALID] = deepcopy(ours)
    schemas = document.get("components", {}).get("schemas", {})
    for name in FASTAPIS_SCHEMAS:
        if SCHEMAS + name not in set(_references(document)):
            schemas.pop(name, None)
    if not schemas and "components" in document:
        document["components"].pop("schemas", None)


def _objects(value: object) -> Iterator[dict[str, Any]]:
    """The members of an object that are objects themselves."""
    for member in cast("dict[str, object]", value).values() if isinstance(value, dict) else ():
        if isinstance(member, dict):
            yield cast("dict[str, Any]", member)


def _references(value: object) -> Iterator[str]:
    """All that the document refers to."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            members = cast("dict[str, object]", one)
            if isinstance(members.get("$ref"), str):
                yield str(members["$ref"])
            waiting.extend(members.values())
        elif isinstance(one, list):
            waiting.extend(cast("list[object]", one))
