"""Kills a program at each of its dealings with the database, and sees whether it kept its promises."""

from workhorse.testing.crash.history import CrashTestFailed, History, Point, Report
from workhorse.testing.crash.kit import CrashTest
from workhorse.testing.crash.request import Reply, Request

__all__ = ["CrashTest", "CrashTestFailed", "History", "Point", "Reply", "Report", "Request"]
