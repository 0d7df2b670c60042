"""Many requests in one transaction: for the few routes that a service lives by."""

from workhorse.batches.batched import Batched, batched
from workhorse.batches.member import BatchFull, Kept
from workhorse.batches.rounds import on_behalf_of

__all__ = ["BatchFull", "Batched", "Kept", "batched", "on_behalf_of"]
