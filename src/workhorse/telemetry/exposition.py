"""From what each process counted to what a person or a scraper reads. Pure functions, no I/O.

`merge` adds up the numbers of all processes, series by series: counters and histograms of the living and the dead,
gauges of the living only. `exposition` writes the sum in the Prometheus text format 0.0.4; `bucket_quantile`
estimates a quantile from a histogram as PromQL's `histogram_quantile` does.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from workhorse.telemetry.shared_slots import Reading

__all__ = ["CONTENT_TYPE", "Merged", "bucket_quantile", "exposition", "merge", "select"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
LARGEST_PLAIN_INTEGER: Final = 2.0**53


class Merged(NamedTuple):
    """One metric over all processes: the numbers of each set of label values."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...]
    series: dict[tuple[str, ...], list[float]]


def merge(readings: Iterable[Reading], known: Iterable[Merged] = ()) -> dict[str, Merged]:
    """Add up what the processes counted.

    A metric that two of them define differently (two versions of a program in one folder) counts as the first of
    them has it, and `known` comes before all; the other's numbers cannot be added to it and are left out.
    """
    merged = {metric.name: metric for metric in known}
    for series, numbers, living in readings:
        metric = merged.get(series.name)
        if metric is None:
            metric = Merged(series.name, series.kind, series.help, series.labels, series.bounds, {})
            merged[series.name] = metric
        elif (metric.kind, metric.labels, metric.bounds) != (series.kind, series.labels, series.bounds):
            continue
        if series.kind == "gauge" and not living:
            continue
        sums = metric.series.get(series.values)
        total = numbers if sums is None else [a + b for a, b in zip(sums, numbers, strict=True)]
        metric.series[series.values] = total
    return merged


def select(metric: Merged, label_filter: Mapping[str, str]) -> list[float]:
    """Add up the series whose labels have the values of `label_filter`; zeros where there is none.

    Raises:
        ValueError: the metric has no such label.
    """
    wanted = [(metric.labels.index(label), value) for label, value in label_filter.items() if label in metric.labels]
    if len(wanted) != len(label_filter):
        raise ValueError(f"the labels of {metric.name} are {metric.labels}, not {tuple(label_filter)}")
    total = [0.0] * (len(metric.bounds) + 2 if metric.bounds else 1)
    for values, numbers in metric.series.items():
        if all(values[index] == value for index, value in wanted):
            total = [a + b for a, b in zip(total, numbers, strict=True)]
    return total


def bucket_quantile(q: float, bounds: Sequence[float], counts: Sequence[float]) -> float:
    """Estimate the q-quantile of what a histogram counted, linearly within the bucket where it lies.

    The rules are those of PromQL's `histogram_quantile`: the first bucket begins at 0 if its bound is positive; a
    quantile beyond the last bound is that bound; NaN where nothing was counted; an infinity where q is not in [0, 1].

    Args:
        q: between 0 and 1.
        bounds: the buckets' inclusive upper bounds, ascending and finite.
        counts: what each bucket counted by itself, and at the end what exceeds the last bound.
    """
    total = sum(counts)
    if math.isnan(q) or total == 0:
        return math.nan
    if not 0 <= q <= 1:
        return math.copysign(math.inf, q)
    rank = q * total
    below = 0.0
    for index, bound in enumerate(bounds):
        count = counts[index]
        if below + count >= rank:
            if index == 0 and bound <= 0:
                return bound
            start = bounds[index - 1] if index else 0.0
            return start + (bound - start) * ((rank - below) / count) if count else start
        below += count
    return bounds[-1]


def exposition(metrics: Iterable[Merged]) -> bytes:
    """Write the metrics that have a series in the Prometheus text format 0.0.4, in the order of their names."""
    lines: list[str] = []
    for metric in sorted(metrics, key=lambda metric: metric.name):
        if metric.series:
            lines.append(f"# HELP {metric.name} {_escape_help(metric.help)}")
            lines.append(f"# TYPE {metric.name} {metric.kind}")
            for values in sorted(metric.series):
                lines.extend(_samples(metric, values, metric.series[values]))
    lines.append("")
    return "\n".join(lines).encode()


def _samples(metric: Merged, values: tuple[str, ...], numbers: list[float]) -> Iterator[str]:
    pairs = ",".join(f'{label}="{_escape(value)}"' for label, value in zip(metric.labels, values, strict=True))
    braced = f"{{{pairs}}}" if pairs else ""
    if not metric.bounds:
        yield f"{metric.name}{braced} {_number(numbers[0])}"
        return
    comma = "," if pairs else ""
    counts = list(accumulate(numbers[:-1]))
    for bound, count in zip((*metric.bounds, math.inf), counts, strict=True):
        yield f'{metric.name}_bucket{{{pairs}{comma}le="{_number(bound)}"}} {_number(count)}'
    yield f"{metric.name}_sum{braced} {_number(numbers[-1])}"
    yield f"{metric.name}_count{braced} {_number(counts[-1])}"


def _number(value: float) -> str:
    if value.is_integer() and abs(value) < LARGEST_PLAIN_INTEGER:
        return str(int(value))
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(value)


def _escape(value: str) -> str:
    return _escape_help(value).replace('"', '\\"')


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
