"""The app that stands in INSTALLED_APPS."""

from typing import Any, Final, cast

from django.apps import AppConfig
from django.db.models.signals import post_migrate

from workhorse.integrations.django.cache_line import CacheLine
from workhorse.integrations.django.checks import register_checks
from workhorse.integrations.django.error_pages import stay_in_thread
from workhorse.integrations.django.host import APP, listen
from workhorse.integrations.django.tables import apply_after_migrate

__all__ = ["WorkhorseConfig"]

# Django has no types.
MIGRATED: Final = cast("Any", post_migrate)


class WorkhorseConfig(AppConfig):  # type: ignore[misc]  # Django has no types
    """Workhorse in a Django project: migrations, commands and checks."""

    name = APP
    label = "workhorse"
    verbose_name = "Workhorse"
    default = True

    def __init__(self, app_name: str, app_module: Any) -> None:
        super().__init__(app_name, app_module)
        self._cache_lines: dict[str, CacheLine] = {}

    def cache_line(self, location: str) -> CacheLine:
        """The connections to one cache, which all threads of the process share."""
        return self._cache_lines.setdefault(location, CacheLine(location))

    def close_caches(self) -> None:
        """Close the connections of all caches. The next call of one opens its own again."""
        for line in self._cache_lines.values():
            line.close()

    def ready(self) -> None:
        """Connect to Django's signals, keep error pages in the request's thread, and register the checks."""
        listen()
        stay_in_thread()
        register_checks()
        MIGRATED.connect(apply_after_migrate, sender=self, dispatch_uid="workhorse.apply_after_migrate")
