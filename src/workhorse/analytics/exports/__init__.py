"""Results of queries into files: partitioned Parquet in an object store, single files, and downloads that go on."""

from workhorse.analytics.exports.dataset import DatasetOptions, export_dataset
from workhorse.analytics.exports.downloads import Downloads, ExportFailed, NoSuchExport, Ticket
from workhorse.analytics.exports.faults import ExportRefused
from workhorse.analytics.exports.file import write_file
from workhorse.analytics.exports.manifest import ExportedFile, ExportReport, read_manifest
from workhorse.analytics.exports.serving import DownloadReply

__all__ = [
    "DatasetOptions",
    "DownloadReply",
    "Downloads",
    "ExportFailed",
    "ExportRefused",
    "ExportReport",
    "ExportedFile",
    "NoSuchExport",
    "Ticket",
    "export_dataset",
    "read_manifest",
    "write_file",
]
