"""What must not be used with real data. Pure, so that a test can list it all."""

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from workhorse.settings.audit import AuditSettings
from workhorse.settings.guard import GuardSettings
from workhorse.settings.records import OperationsSettings, Settings

__all__ = ["UnsafeSetting", "unsafe_settings"]

NETWORK_SCHEMES: Final = {"redis", "redis+cluster", "valkey"}
# As many as 32 random bytes have in base64, rounded down: nobody guesses them.
MIN_TOKEN: Final = 32
# By the version of IP: nobody owns a wider network.
WIDEST: Final = {4: 8, 6: 7}


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
    for name, url in (
        ("database.replica_url", settings.database.replica_url),
        ("database.pooler_url", settings.database.pooler_url),
        ("analytics.url", settings.analytics.url),
        ("analytics.warehouse_url", settings.analytics.warehouse_url),
    ):
        if (
            url is not None
            and not settings.database.insecure_plain_text
            and _plain_text_postgres(url.get_secret_value())
        ):
            faults.append(
                UnsafeSetting(
                    name,
                    "the connection crosses the network and may be in plain text",
                    "add ?sslmode=verify-full to it (or set database.insecure_plain_text and know why)",
                )
            )
    if cache is not None and _plain_text_cache(cache.get_secret_value()):
        faults.append(
            UnsafeSetting("cache.url", "the connection crosses the network in plain text", "use rediss:// in CACHE_URL")
        )
    faults += _unsafe_of_guard(guard)
    faults += _unsafe_of_audit(settings.audit)
    faults += _unsafe_of_operations(settings.operations)
    if settings.server.reload:
        faults.append(UnsafeSetting("server.reload", "reloading is for development", "set server.reload to false"))
    if settings.log.level == "debug":
        faults.append(UnsafeSetting("log.level", "debug lines may hold personal data", "set log.level to info"))
    return faults


def _unsafe_of_guard(guard: GuardSettings) -> Iterator[UnsafeSetting]:
    wide = [host for host in guard.allowed_hosts if host.startswith("*.") and "." not in host[2:].strip(".")]
    if guard.insecure_any_host:
        yield UnsafeSetting("guard.insecure_any_host", "any Host header is served", "name them in guard.allowed_hosts")
    elif not guard.allowed_hosts:
        yield UnsafeSetting(
            "guard.allowed_hosts",
            "no host name is served",
            'name the public ones: WORKHORSE_GUARD__ALLOWED_HOSTS="api.example.com"',
        )
    elif wide:
        yield UnsafeSetting(
            "guard.allowed_hosts",
            f"{', '.join(wide)} is a whole top-level domain, in which anybody may have a name",
            "name your own domain, such as *.example.com",
        )
    if guard.insecure_cross_site:
        yield UnsafeSetting(
            "guard.insecure_cross_site",
            "any site's page may act with the user's cookies",
            "name those that may in guard.csrf_origins, or one route in Policy(insecure_cross_site=True)",
        )
    if guard.insecure_cors_any_origin:
        yield UnsafeSetting(
            "guard.insecure_cors_any_origin",
            "any site's page may read the replies",
            "name those that may in guard.cors_origins",
        )
    if guard.https == "off" and guard.trusted_proxies:
        # Without a proxy that tells, `auto` can do no more than `off`.
        yield UnsafeSetting("guard.https", "plain HTTP is taken", "leave guard.https at auto")
    if guard.hsts_seconds == 0:
        yield UnsafeSetting(
            "guard.hsts_seconds",
            "a browser's first request may go in plain text",
            "leave it at 63072000, or try it out with 300",
        )


def _unsafe_of_audit(audit: AuditSettings) -> Iterator[UnsafeSetting]:
    if audit.origin and audit.key is None and audit.key_file is not None and not audit.insecure_key_file:
        yield UnsafeSetting(
            "audit.key_file",
            "whoever has this machine has the log's private key",
            "set audit.key from a secret store, or audit.insecure_key_file if the file is a mounted secret",
        )


def _unsafe_of_operations(operations: OperationsSettings) -> Iterator[UnsafeSetting]:
    wide = [network for network in operations.metrics_networks if _is_everybody(network)]
    if wide:
        yield UnsafeSetting(
            "operations.metrics_networks",
            f"{', '.join(wide)} is everybody, or nearly, and the metrics tell much",
            "name the network of your Prometheus, or set operations.token",
        )
    if operations.token is not None and len(operations.token.get_secret_value()) < MIN_TOKEN:
        yield UnsafeSetting(
            "operations.token",
            f"it is shorter than {MIN_TOKEN} characters, and can be guessed",
            "set it to what `openssl rand -base64 32` prints",
        )


def _is_everybody(network: str) -> bool:
    try:
        parsed = ip_network(network)
    except ValueError:
        return False  # refused with its own message where it is read
    return parsed.prefixlen < WIDEST[parsed.version]


def _local(host: str | None) -> bool:
    return not host or host.startswith("/") or host in {"localhost", "127.0.0.1", "::1"}


def _plain_text_postgres(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme == "duckdb":
        return False  # a file
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
