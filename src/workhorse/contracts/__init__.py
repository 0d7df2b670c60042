"""The few Protocols that one room offers and another needs.

A room imports a contract, never the driver behind it: so a unit runs over psycopg today and over an app's own
SQLAlchemy engine or Django connection without knowing. What a contract promises is tested once, over every backend.
"""

from workhorse.contracts.api_keys import ApiKeyRecord, ApiKeyStore
from workhorse.contracts.cache import (
    CacheClaim,
    CacheClaiming,
    CacheEntry,
    CacheGuarantee,
    CacheHit,
    CacheStore,
    TransactionalCache,
)
from workhorse.contracts.counters import CounterStore, Exactness, Grant, ReadyCounters
from workhorse.contracts.lease import LeaseAnswer, LeaseGuarantee, LeaseHeld, LeaseLost, LeaseStore
from workhorse.contracts.recorder import Recorder
from workhorse.contracts.sessions import SessionRecord, SessionStore
from workhorse.contracts.transactions import (
    ON_USUAL_TERMS,
    Database,
    Isolation,
    Query,
    RecordsModels,
    RowChange,
    Rows,
    Terms,
    Transaction,
)

__all__ = [
    "ON_USUAL_TERMS",
    "ApiKeyRecord",
    "ApiKeyStore",
    "CacheClaim",
    "CacheClaiming",
    "CacheEntry",
    "CacheGuarantee",
    "CacheHit",
    "CacheStore",
    "CounterStore",
    "Database",
    "Exactness",
    "Grant",
    "Isolation",
    "LeaseAnswer",
    "LeaseGuarantee",
    "LeaseHeld",
    "LeaseLost",
    "LeaseStore",
    "Query",
    "ReadyCounters",
    "Recorder",
    "RecordsModels",
    "RowChange",
    "Rows",
    "SessionRecord",
    "SessionStore",
    "Terms",
    "Transaction",
    "TransactionalCache",
]
