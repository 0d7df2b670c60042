"""The few Protocols that one room offers and another needs.

A room imports a contract, never the driver behind it: so a unit runs over psycopg today and over an app's own
SQLAlchemy engine or Django connection without knowing. What a contract promises is tested once, over every backend.
"""

from workhorse.contracts.api_keys import ApiKeyRecord, ApiKeyStore
from workhorse.contracts.counters import CounterStore, Exactness, Grant, ReadyCounters
from workhorse.contracts.sessions import SessionRecord, SessionStore
from workhorse.contracts.transactions import Database, Query, Transaction

__all__ = [
    "ApiKeyRecord",
    "ApiKeyStore",
    "CounterStore",
    "Database",
    "Exactness",
    "Grant",
    "Query",
    "ReadyCounters",
    "SessionRecord",
    "SessionStore",
    "Transaction",
]
