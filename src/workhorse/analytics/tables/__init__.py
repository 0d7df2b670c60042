"""Results of queries and tables in memory, answered as JSON, NDJSON, CSV, Arrow or Parquet."""

from workhorse.analytics.tables.access import Access, Cells, Privacy
from workhorse.analytics.tables.formats import Format, NotAcceptable
from workhorse.analytics.tables.reply import TableReply
from workhorse.analytics.tables.selection import InMemory, Selection, Source, Tables, TooManyRows

__all__ = [
    "Access",
    "Cells",
    "Format",
    "InMemory",
    "NotAcceptable",
    "Privacy",
    "Selection",
    "Source",
    "TableReply",
    "Tables",
    "TooManyRows",
]
