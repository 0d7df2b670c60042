"""Composes the rooms around an app: the only place that chooses concrete backends."""

from workhorse.service.service import Service

__all__ = ["Service"]
