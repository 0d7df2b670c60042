"""What is compared: the lines of the table."""

from dataclasses import dataclass
from typing import Final

__all__ = ["LINES", "Line"]

SECURITY: Final = (
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
)
SESSIONS: Final = ("django.contrib.sessions.middleware.SessionMiddleware",)
UNITS: Final = ("workhorse.integrations.django.UnitMiddleware",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One project."""

    title: str
    method: str
    path: str
    base: str
    """What it is compared with; itself, where it is the base."""
    middleware: tuple[str, ...] = ()
    workhorse: bool = False
    units: str = "asked"


LINES: Final = {
    "bare": Line(title="a view, bare", method="GET", path="/read", base="bare"),
    "security": Line(
        title="with Django's security middleware", method="GET", path="/read", base="bare", middleware=SECURITY
    ),
    "security+session": Line(
        title="with that and sessions",
        method="GET",
        path="/read",
        base="bare",
        middleware=(SECURITY[0], *SESSIONS, *SECURITY[1:]),
    ),
    "workhorse": Line(title="with Workhorse instead", method="GET", path="/read", base="bare", workhorse=True),
    "workhorse+session": Line(
        title="with that and Django's sessions",
        method="GET",
        path="/read",
        base="bare",
        middleware=SESSIONS,
        workhorse=True,
    ),
    "write": Line(title="a write in atomic()", method="POST", path="/write-atomic", base="write"),
    "write, guarded": Line(
        title="the same under Workhorse", method="POST", path="/write-atomic", base="write", workhorse=True
    ),
    "write, unit": Line(
        title="a write in a unit",
        method="POST",
        path="/write",
        base="write",
        middleware=UNITS,
        workhorse=True,
        units="unsafe",
    ),
}
