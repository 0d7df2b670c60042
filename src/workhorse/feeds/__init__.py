"""Readers of the journal that miss no event and read none twice."""

from workhorse.feeds.feed import Feed, FeedMoved, Recorded
from workhorse.feeds.reader import FeedReader

__all__ = ["Feed", "FeedMoved", "FeedReader", "Recorded"]
