"""The audit log over HTTP, from the service itself: where, for whom, and before which app.

Entries name principals and subjects, so nobody may read them by default: the setting says where they are served, and a
policy of the service's own, in its code, who may ask. One without the other is refused at the start.
"""

from collections.abc import Iterable
from typing import Final

from workhorse.asgi import ASGIApp, Receive, Scope, Send
from workhorse.contracts import Database
from workhorse.errors import SettingsError
from workhorse.policy import Policy
from workhorse.settings import Settings

__all__ = ["file_policy", "is_of_audit_files", "with_audit_files"]

REST: Final = "{file:path}"


def is_of_audit_files(settings: Settings, policy: Policy) -> bool:
    """Whether a policy is for the log's files, which no route of the app serves."""
    prefix = settings.audit.serve_at
    return bool(prefix) and policy.pattern == f"GET {prefix}/{REST}"


def file_policy(settings: Settings, policies: Iterable[Policy]) -> Policy | None:
    """The policy of the log's files; None if they are not served.

    Raises:
        SettingsError: nobody says who may read them, or there is no log.
    """
    prefix = settings.audit.serve_at
    if not prefix:
        return None
    if not settings.audit.origin:
        raise SettingsError(f"audit.serve_at is {prefix}, and there is no log to serve: set audit.origin")
    found = next((policy for policy in policies if is_of_audit_files(settings, policy)), None)
    if found is None or not (found.public or found.scopes):
        raise SettingsError(
            f"audit.serve_at is {prefix}, and no policy says who may read the log, whose entries name people: write"
            f' Policy("GET {prefix}/{REST}", scope="audit:read"), or with public=True for anybody'
        )
    return found


def with_audit_files(app: ASGIApp, settings: Settings, database: Database, policies: Iterable[Policy]) -> ASGIApp:
    """The app, and before it what serves the log, where the settings say so.

    Raises:
        SettingsError: see `file_policy`.
    """
    policy = file_policy(settings, policies)
    if policy is None:
        return app
    from workhorse.sealer.serving import LogFiles  # noqa: PLC0415 - it needs cryptography, an extra

    files = LogFiles(
        database,
        prefix=settings.audit.serve_at,
        quorum=settings.audit.witness_quorum,
        shared=policy.public,
    )

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await (files if files.serves(scope) else app)(scope, receive, send)

    return serve
