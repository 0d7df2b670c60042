"""What must not be used with real data. Pure, so that a test can list it all."""

from typing import Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from workhorse.settings.records import Settings

__all__ = ["UnsafeSetting", "unsafe_settings"]

NETWORK_SCHEMES: Final = {"redis", "redis+cluster", "valkey"}


class UnsafeSetting(NamedTuple):
    """A value that production refuses, why, and the mend."""

    name: str
    reason: str
    mend: str


def unsafe_settings(settings: Settings) -> list[UnsafeSetting]:
    """Every value that must not be used with real data, with its mend."""
    faults: list[UnsafeSetting] = []
    database, cache, guard = settings.database.url, settings.cache.url, settings.guard
    if database is None:
        faults.append(
            UnsafeSetting("database.url", "embedded servers are for development", "set DATABASE_URL to your Postgres")
        )
    elif not settings.database.insecure_plain_text and _plain_text_postgres(database.get_secret_value()):
        faults.append(
            UnsafeSetting(
                "database.url",
                "the connection crosses the network and may be in plain text",
                "add ?sslmode=verify-full to DATABASE_URL (or set database.insecure_plain_text and know why)",
            )
        )
    replica = settings.database.replica_url
    if (
        replica is not None
        and not settings.database.insecure_plain_text
        and _plain_text_postgres(replica.get_secret_value())
    ):
        faults.append(
            UnsafeSetting(
                "database.replica_url",
                "the connection crosses the network and may be in plain text",
                "add ?sslmode=verify-full to it (or set database.insecure_plain_text and know why)",
            )
        )
    if cache is not None and _plain_text_cache(cache.get_secret_value()):
        faults.append(
            UnsafeSetting("cache.url", "the connection crosses the network in plain text", "use rediss:// in CACHE_URL")
        )
    if guard.insecure_any_host:
        faults.append(
            UnsafeSetting("guard.insecure_any_host", "any Host header is served", "name them in guard.allowed_hosts")
        )
    elif not guard.allowed_hosts:
        faults.append(
            UnsafeSetting(
                "guard.allowed_hosts",
                "no host name is served",
                'name the public ones: WORKHORSE_GUARD__ALLOWED_HOSTS="api.example.com"',
            )
        )
    if guard.insecure_cross_site:
        faults.append(
            UnsafeSetting(
                "guard.insecure_cross_site",
                "any site's page may act with the user's cookies",
                "name those that may in guard.csrf_origins, or one route in Policy(insecure_cross_site=True)",
            )
        )
    if settings.server.reload:
        faults.append(UnsafeSetting("server.reload", "reloading is for development", "set server.reload to false"))
    if settings.log.level == "debug":
        faults.append(UnsafeSetting("log.level", "debug lines may hold personal data", "set log.level to info"))
    return faults


def _local(host: str | None) -> bool:
    return not host or host.startswith("/") or host in {"localhost", "127.0.0.1", "::1"}


def _plain_text_postgres(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        return True  # not a URL: where it leads cannot be told here
    query = parse_qs(parts.query)
    hosts = [parts.hostname, *query.get("host", []), *query.get("hostaddr", [])]
    return not all(_local(host) for host in hosts) and query.get("sslmode", ["prefer"])[0] not in {
        "require",
        "verify-ca",
        "verify-full",
    }


def _plain_text_cache(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in NETWORK_SCHEMES and not _local(parts.hostname)
