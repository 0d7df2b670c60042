"""The way in: one layer of pure ASGI, compiled from settings, that every request passes once."""

from workhorse.guard.layer import Guard
from workhorse.guard.plan import Plan, compile_plan

__all__ = ["Guard", "Plan", "compile_plan"]
