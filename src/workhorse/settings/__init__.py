"""One tree of settings, read once, from four places, of which the earlier wins.

1. what the code gives: `Settings(...)` or `load_settings(server={"port": 9000})`
2. the environment: `WORKHORSE_SERVER__PORT=9000`, and the conventional `DATABASE_URL` and `CACHE_URL`
3. `[tool.workhorse]` of the project's `pyproject.toml`
4. the defaults below, which are safe

A name that stands in none of the records is refused with the nearest right one, wherever it was written: a
misspelt limit must not silently be no limit. In production, values that are unsafe are refused together, each
with its mend. Durations are in seconds and sizes in bytes, and the name says so.
"""

from workhorse.settings.loading import find_project, load_settings
from workhorse.settings.production import UnsafeSetting, unsafe_settings
from workhorse.settings.records import (
    CacheSettings,
    DatabaseSettings,
    EmbeddedSettings,
    Environment,
    EventsSettings,
    GuardSettings,
    IdempotencySettings,
    IdentitySettings,
    JobsSettings,
    LogSettings,
    OperationsSettings,
    ServerSettings,
    SettingRow,
    Settings,
)

__all__ = [
    "CacheSettings",
    "DatabaseSettings",
    "EmbeddedSettings",
    "Environment",
    "EventsSettings",
    "GuardSettings",
    "IdempotencySettings",
    "IdentitySettings",
    "JobsSettings",
    "LogSettings",
    "OperationsSettings",
    "ServerSettings",
    "SettingRow",
    "Settings",
    "UnsafeSetting",
    "find_project",
    "load_settings",
    "unsafe_settings",
]
