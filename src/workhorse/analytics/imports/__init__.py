"""Files of Parquet, CSV, Arrow and NDJSON into tables: checked, at the speed of COPY, and each file once."""

from workhorse.analytics.imports.faults import BadRow, ImportBusy, ImportRefused, TooManyBadRows
from workhorse.analytics.imports.importing import ImportOptions, ImportReport, import_file
from workhorse.analytics.imports.sources import FileFormat, Limits

__all__ = [
    "BadRow",
    "FileFormat",
    "ImportBusy",
    "ImportOptions",
    "ImportRefused",
    "ImportReport",
    "Limits",
    "TooManyBadRows",
    "import_file",
]
