"""Events copied to an engine of their own, which answers the same questions when one machine is outgrown."""

from workhorse.analytics.warehouse.table import Column, CopiedTable
from workhorse.analytics.warehouse.warehouse import NotExact, Warehouse

__all__ = ["Column", "CopiedTable", "NotExact", "Warehouse"]
