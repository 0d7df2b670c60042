"""Reads tables that a service answers with, from any program: needs pyarrow, and nothing of a service."""

from workhorse.client.downloads import download
from workhorse.client.tables import CutShort, read_pandas, read_polars, read_table, stream_batches

__all__ = ["CutShort", "download", "read_pandas", "read_polars", "read_table", "stream_batches"]
