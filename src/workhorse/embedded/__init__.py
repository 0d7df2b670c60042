"""Real servers for development and tests: Postgres and Valkey from wheels, with nothing to install or to look after.

    from workhorse.embedded import attach

    with attach(Path(".workhorse")) as servers:
        psycopg.connect(servers.database_url)

The first process that attaches starts a small detached **steward**, which owns the servers; the others find them.
The last one to leave lets them stop. Whatever is killed is started again, and what was committed is there.
`docs/embedded.md` says what is promised and what is not. Never for production: the settings refuse it there.
"""

from workhorse.embedded.client import Attachment, attach
from workhorse.embedded.control import ServerStatus, Status, reset, status, stop
from workhorse.embedded.databases import drop_database, fresh_database
from workhorse.embedded.state import ServerName, ServerState

__all__ = [
    "Attachment",
    "ServerName",
    "ServerState",
    "ServerStatus",
    "Status",
    "attach",
    "drop_database",
    "fresh_database",
    "reset",
    "status",
    "stop",
]
