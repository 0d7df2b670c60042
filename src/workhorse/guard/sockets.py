"""WebSockets: a handshake that is admitted as a request is, and messages that are counted while the socket is open.

A refused handshake is answered with the same problem as a request where the server can do that (the extension
`websocket.http.response`), and is otherwise just denied, which servers answer with 403.
"""

from time import monotonic

from workhorse.asgi import ASGIApp, Message, Receive, Scope, Send
from workhorse.context import CURRENT
from workhorse.guard.access import Access
from workhorse.guard.admission import admit_socket
from workhorse.guard.checks.websocket import OVER_RATE, MessageMeter
from workhorse.guard.exchange import Exchange
from workhorse.guard.facts import Facts
from workhorse.guard.permission import Permission
from workhorse.guard.permit import WAIT
from workhorse.guard.plan import Plan
from workhorse.guard.verdict import Refusal
from workhorse.problems import render_problem, request_instance

__all__ = ["Sockets"]

POLICY_VIOLATION = 1008


class Sockets:
    """Guards the WebSockets of an app."""

    def __init__(self, app: ASGIApp, plan: Plan, permission: Permission, access: Access) -> None:
        self._app = app
        self._plan = plan
        self._permission = permission
        self._access = access

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket from its handshake to its end."""
        facts = Facts(scope)
        exchange = Exchange(self._plan, facts, send, monotonic())
        current = CURRENT.set(exchange)
        try:
            refusal = admit_socket(self._plan, facts, exchange)
            if refusal is None:
                permitted = self._permission.permit.ask(facts, exchange, scope)
                refusal = await self._permission.check(facts, exchange, scope) if permitted is WAIT else permitted
            if refusal is None:
                await self._app(scope, self._metered(receive, send), send)
            else:
                await self._deny(refusal, exchange, scope, send)
        finally:
            CURRENT.reset(current)

    def _metered(self, receive: Receive, send: Send) -> Receive:
        meter = MessageMeter(self._plan.sockets)

        async def metered() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive":
                code = meter.take(message, monotonic())
                if code:
                    control = "websocket.rate" if code == OVER_RATE else "websocket.size"
                    self._access.refused(control)
                    await send({"type": "websocket.close", "code": code, "reason": control})
                    # To the app it looks as if the client had gone.
                    return {"type": "websocket.disconnect", "code": code, "reason": control}
            return message

        return metered

    async def _deny(self, refusal: Refusal, exchange: Exchange, scope: Scope, send: Send) -> None:
        self._access.refused(refusal.control)
        if "websocket.http.response" not in scope.get("extensions", ()):
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": refusal.problem.title})
            return
        reply = render_problem(refusal.problem, instance=request_instance())
        headers = [*reply.headers, *exchange.extra, (b"x-request-id", exchange.request_id)]
        await send({"type": "websocket.http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": reply.body})
