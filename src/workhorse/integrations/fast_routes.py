"""Serves a hot route of a FastAPI app without its framework, where nobody can tell the difference.

Routing, dependency injection and the request object cost FastAPI some 200 microseconds a request: several times what a
batched handler costs. A route that uses none of them, which takes one JSON body, returns one model and asks for nothing
else, is called here directly: the body is validated, and the result serialised, by the very fields that FastAPI built
for the route. Its place in the OpenAPI document, and whatever else looks at the app's routes, stays as it is.

Whatever is not the plain case goes the usual way: a body that is not valid, another content type, a HEAD request. So
every refusal is the framework's own, word for word. Exceptions of the handler go to the app's exception handlers.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from fastapi import FastAPI, params
from fastapi.datastructures import DefaultPlaceholder
from fastapi.exceptions import ResponseValidationError
from fastapi.routing import APIRoute, APIRouter
from pydantic_core import from_json
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Host, Match

from workhorse.asgi import ASGIApp, Message, Receive, Scope, Send, route_path
from workhorse.errors import SettingsError
from workhorse.policy import Policy

__all__ = ["FastLayer", "fast_layer"]

JSON: Final = b"application/json"


@dataclass(frozen=True, slots=True)
class FastRoute:
    """What is known of a route before the first request."""

    route: APIRoute
    call: Callable[..., Awaitable[Any]]
    parameter: str
    body: Any
    """FastAPI's field of the body."""
    result: Any
    """FastAPI's field of the result."""
    by_alias: bool
    status: int

    def read(self, body: bytes) -> tuple[bool, Any]:
        """Whether the body is valid, and what it says."""
        try:
            value = from_json(body)
        except ValueError:
            return False, None
        command, errors = self.body.validate(value, {}, loc=("body",))
        return not errors, command

    def write(self, result: Any) -> bytes:
        """The result as JSON.

        Raises:
            ResponseValidationError: it is not what the route declares.
        """
        value, errors = self.result.validate(result, {}, loc=("response",))
        if errors:
            raise ResponseValidationError(errors=errors, body=result)
        encoded: bytes = self.result.serialize_json(value, by_alias=self.by_alias)
        return encoded


def fast_layer(app: ASGIApp, policies: Iterable[Policy]) -> ASGIApp:
    """Put the layer before `app` if a policy asks for it; else return the app itself.

    Raises:
        SettingsError: a route cannot be served so; the message has all reasons.
    """
    wanted = [policy for policy in policies if policy.fast]
    if not wanted:
        return app
    if not isinstance(app, FastAPI):
        raise SettingsError(
            f"the policy {wanted[0].pattern!r} is fast, and the app is no FastAPI app; take `fast` out of it"
        )
    return FastLayer(app, {(policy.method, policy.path): fast_route(app, policy) for policy in wanted})


def fast_route(app: FastAPI, policy: Policy) -> FastRoute:
    """What is needed to serve the policy's route.

    Raises:
        SettingsError: it needs more than the fast way has.
    """
    found = next(
        (
            route
            for route in app.routes
            if isinstance(route, APIRoute) and route.path == policy.path and policy.method in (route.methods or ())
        ),
        None,
    )
    if found is None:
        raise SettingsError(
            f"the policy {policy.pattern!r} is fast, and the app has no such route of its own; take `fast` out of it"
        )
    reasons = list(obstacles(app, found))
    if reasons:
        raise SettingsError(
            f"the policy {policy.pattern!r} is fast, and the route cannot be: {'; '.join(reasons)}."
            " Change the route, or take `fast` out of its policy"
        )
    (parameter,) = found.dependant.body_params
    return FastRoute(
        route=found,
        call=found.endpoint,
        parameter=parameter.name,
        body=parameter,
        result=found.response_field,
        by_alias=found.response_model_by_alias,
        status=found.status_code or 200,
    )


def obstacles(app: FastAPI, route: APIRoute) -> Iterable[str]:
    """Why a route cannot be served without the framework."""
    needs = route.dependant
    if taken_before(app, route):
        yield "a route before it takes its requests"
    if app.user_middleware:
        yield "the app has middleware of its own"
    own = (type(app).__call__, type(app).build_middleware_stack, type(app.router))
    if own != (FastAPI.__call__, FastAPI.build_middleware_stack, APIRouter):
        yield "the app or its router is of a class that does more than FastAPI's"
    if type(route) is not APIRoute or "{" in route.path:
        yield "its path has parameters, or its class is an own one"
    if not inspect.iscoroutinefunction(inspect.unwrap(route.endpoint)):
        yield "its handler is not `async def`"
    if needs.path_params or needs.query_params or needs.header_params or needs.cookie_params:
        yield "it reads path, query, headers or cookies"
    asked = (
        needs.request_param_name,
        needs.http_connection_param_name,
        needs.response_param_name,
        needs.background_tasks_param_name,
        needs.security_scopes_param_name,
    )
    if needs.dependencies or any(asked):
        yield "it has dependencies, or asks for the request, the response or background tasks"
    if len(needs.body_params) != 1 or is_embedded(needs.body_params[0]) or is_form(needs.body_params[0]):
        yield "it does not take exactly one JSON body"
    if route.response_field is None or not isinstance(route.response_class, DefaultPlaceholder):
        yield "it declares no result, or a response class of its own"
    if any(
        (
            route.response_model_include,
            route.response_model_exclude,
            route.response_model_exclude_unset,
            route.response_model_exclude_defaults,
            route.response_model_exclude_none,
        )
    ):
        yield "it leaves parts of its result out"


def taken_before(app: FastAPI, route: APIRoute) -> bool:
    """Whether an earlier route of the app takes what is meant for this one."""
    path: dict[str, Any] = {"type": "http", "path": route.path, "root_path": "", "headers": [], "query_string": b""}
    for earlier in app.routes:
        if earlier is route:
            return False
        if isinstance(earlier, Host):
            return True  # by a header that differs from request to request
        if any(earlier.matches({**path, "method": method})[0] is Match.FULL for method in route.methods or ()):
            return True
    return False


def is_form(field: Any) -> bool:
    """Whether a body field is a form's."""
    return isinstance(field.field_info, params.Form)


def is_embedded(field: Any) -> bool:
    """Whether the body is an object with the field's value under its name."""
    return bool(getattr(field.field_info, "embed", None))


class FastLayer:
    """Serves some routes directly, and all else by the app."""

    def __init__(self, app: FastAPI, routes: Mapping[tuple[str, str], FastRoute]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope."""
        route = self._routes.get((scope["method"], route_path(scope))) if scope["type"] == "http" else None
        if route is None or not is_json(scope):
            await self._app(scope, receive, send)
            return
        messages: list[Message] = []
        body = await read(receive, messages)
        valid, command = route.read(body) if body is not None else (False, None)
        if not valid:
            await self._app(scope, Remembered(messages, receive), send)
            return
        try:
            result = await route.call(**{route.parameter: command})
            if not isinstance(result, Response):
                await reply(route, result, send)
                return
        except Exception as error:  # noqa: BLE001 - the app's handlers may be for any, and what they leave is raised
            await self._handle(error, self._as_routed(scope, route), receive, send)
            return
        await result(scope, receive, send)

    def _as_routed(self, scope: Scope, route: FastRoute) -> Scope:
        """The scope as the framework gives it to an exception handler."""
        return {**scope, "app": self._app, "router": self._app.router, "route": route.route, "endpoint": route.call,
                "path_params": {}}  # fmt: skip

    async def _handle(self, error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
        """Do with an exception what Starlette would: the handler for it, or for what that raises in turn.

        Raises:
            Exception: the app has no handler for it, or only one of last resort.
        """
        handlers = self._app.exception_handlers
        request = Request(cast("Any", scope), cast("Any", receive), cast("Any", send))
        for again in (True, False):
            handler = handler_of(error, handlers)
            if handler is None:
                break
            try:
                response = await call_handler(handler, request, error)
            except Exception as other:
                if not again or handler_of(other, handlers) is None:
                    raise
                error = other
                continue
            await response(cast("Any", scope), cast("Any", receive), cast("Any", send))
            return
        last_resort: Any = handlers.get(500) or handlers.get(Exception)
        if last_resort is not None:
            response = await call_handler(last_resort, request, error)
            await response(cast("Any", scope), cast("Any", receive), cast("Any", send))
        raise error


def handler_of(error: Exception, handlers: Mapping[Any, Any]) -> Any:
    """The app's handler for an exception; None where there is only one of last resort, or none."""
    if isinstance(error, HTTPException) and error.status_code != 500 and error.status_code in handlers:
        return handlers[error.status_code]
    return next((handlers[kind] for kind in type(error).__mro__ if kind in handlers and kind is not Exception), None)


async def call_handler(handler: Any, request: Request, error: Exception) -> Response:
    """The reply of one of the app's exception handlers."""
    response: Response
    if inspect.iscoroutinefunction(handler):
        response = await handler(request, error)
    else:
        response = await run_in_threadpool(handler, request, error)
    return response


class Remembered:
    """Gives messages again that were read already, and then the server's."""

    __slots__ = ("_messages", "_receive")

    def __init__(self, messages: list[Message], receive: Receive) -> None:
        self._messages = messages[::-1]
        self._receive = receive

    async def __call__(self) -> Message:
        """Give the next message."""
        return self._messages.pop() if self._messages else await self._receive()


async def read(receive: Receive, messages: list[Message]) -> bytes | None:
    """Read the body, which the guard has bounded, and remember the messages; None if the client went away."""
    while True:
        message = await receive()
        messages.append(message)
        if message["type"] != "http.request":
            return None
        if not message.get("more_body", False):
            break
    return b"".join([message.get("body", b"") for message in messages]) if len(messages) > 1 else message["body"]


async def reply(route: FastRoute, result: Any, send: Send) -> None:
    """Send the result, as Starlette would."""
    body = route.write(result)
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", JSON)]
    await send({"type": "http.response.start", "status": route.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def is_json(scope: Scope) -> bool:
    """Whether the request says that its body is plain JSON."""
    return any(name == b"content-type" and value == JSON for name, value in scope["headers"])
