"""Seals the journal into the audit log, signs what is committed, and reads both out for those who verify.

One process over the cluster seals, whichever it is: `Sealer.run` may stand in any number of them. See docs/audit.md.
"""

from workhorse.sealer.anchors import Anchor, AnchorUnreachable, FileAnchor, ObjectAnchor
from workhorse.sealer.cosigning import Cosigner
from workhorse.sealer.keys import KeyFile, KeyProvider, KeyText, LogKeys
from workhorse.sealer.objects import FolderStore, ObjectStore, S3Store, StoreUnreachable, open_s3
from workhorse.sealer.reading import LogReader, LogStatus, WitnessStatus
from workhorse.sealer.resuming import Resumption, resume
from workhorse.sealer.seal import SEALER_FEED, Sealer, SealerOptions
from workhorse.sealer.signing import SealRefused
from workhorse.sealer.witnesses import Witness, WitnessClient, WitnessFault

__all__ = [
    "SEALER_FEED",
    "Anchor",
    "AnchorUnreachable",
    "Cosigner",
    "FileAnchor",
    "FolderStore",
    "KeyFile",
    "KeyProvider",
    "KeyText",
    "LogKeys",
    "LogReader",
    "LogStatus",
    "ObjectAnchor",
    "ObjectStore",
    "Resumption",
    "S3Store",
    "SealRefused",
    "Sealer",
    "SealerOptions",
    "StoreUnreachable",
    "Witness",
    "WitnessClient",
    "WitnessFault",
    "WitnessStatus",
    "open_s3",
    "resume",
]
