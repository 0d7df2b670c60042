"""Measures: figures that are kept up to date from the journal, exact whatever crashes."""

from workhorse.analytics.measures.definition import DefinitionChanged
from workhorse.analytics.measures.measure import Measure
from workhorse.analytics.measures.measures import Frequent, Measures, Row, forget_version

__all__ = ["DefinitionChanged", "Frequent", "Measure", "Measures", "Row", "forget_version"]
