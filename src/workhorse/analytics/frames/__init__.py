"""Frames in jobs: queries read as Pandas, Polars, Arrow or DuckDB, and written with the job's own unit."""

from workhorse.analytics.frames.faults import FrameMisfit, FrameTooLarge
from workhorse.analytics.frames.reading import read_frame, sync_read_frame
from workhorse.analytics.frames.writing import Written, sync_write_frame, write_frame

__all__ = [
    "FrameMisfit",
    "FrameTooLarge",
    "Written",
    "read_frame",
    "sync_read_frame",
    "sync_write_frame",
    "write_frame",
]
