"""Measures as they change, pushed to browsers and programs by Server-Sent Events or a WebSocket."""

from workhorse.analytics.live.live import Live
from workhorse.analytics.live.stream import LiveStream, TooManySubscribers

__all__ = ["Live", "LiveStream", "TooManySubscribers"]
