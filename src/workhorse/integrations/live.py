"""Streams of live measures as routes of a FastAPI or Starlette app."""

from starlette.routing import BaseRoute, Route, WebSocketRoute

from workhorse.analytics.live import LiveStream

__all__ = ["live_routes"]


def live_routes(path: str, stream: LiveStream) -> list[BaseRoute]:
    """Make the routes of a stream, for Server-Sent Events and for a WebSocket, to be added to `app.router.routes`.

    One policy, `GET` and the path, guards both.
    """
    return [
        Route(path, stream, methods=["GET"], include_in_schema=False),
        WebSocketRoute(path, stream),
    ]
