"""Counters, gauges and histograms that are right over all worker processes, at the cost of an addition in memory.

    registry = Registry(folder)                          # in each worker process, after it was forked
    requests = registry.counter("app_requests_total", "Requests served.", labels=("method", "status"))
    requests.labels("GET", "200").add()                  # a look-up in a dict, and one addition
    registry.render()                                    # what all workers counted together

A metric is declared once and yields one child per set of label values. A child holds its slots (`shared_slots`
says where they are), so to observe is to add to them: no lock, no system call, nothing to flush. Reading adds up the
slots of all processes.

Observations may come from any thread. CPython with its global lock does not switch threads between the load and the
store of a slot, which the test suite hammers; a free-threaded build (3.13t) could lose counts there, and is not
supported. A registry must not cross a fork: the child would count in the parent's slots.
"""

import math
import os
import re
import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import msgspec

from workhorse.telemetry.exposition import Merged, bucket_quantile, exposition, merge, select
from workhorse.telemetry.shared_slots import PrivateSlots, Series, SharedSlots, Slots, private_slots

__all__ = ["DEFAULT_SECONDS", "Counter", "Family", "Gauge", "Histogram", "Registry"]

DEFAULT_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds in seconds for the time that a request takes."""

OTHER: Final = "other"
INFINITY: Final = math.inf
MAX_BOUNDS: Final = 200
MAX_LABEL_CHARACTERS: Final = 256
METRIC_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL_NAME: Final = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
HISTOGRAM_SUFFIXES: Final = ("_bucket", "_sum", "_count")


class Child:
    """One series: the slots of one set of label values."""

    __slots__ = ("slots",)

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        """For what cannot afford a call. To be looked up each time, since `detach` changes them."""

    def detach(self) -> None:
        """Leave the shared slots. What is observed from now on is counted nowhere."""
        self.slots = private_slots(len(self.slots))


class Counter(Child):
    """A number that only grows."""

    __slots__ = ()

    def add(self, amount: float = 1.0) -> None:
        """Add `amount`.

        Raises:
            ValueError: it is negative or not finite.
        """
        if not 0.0 <= amount < INFINITY:
            raise ValueError(f"a counter cannot grow by {amount}; use a gauge for what may fall")
        self.slots[0] += amount


class Gauge(Child):
    """A number that rises and falls. Over all living processes it is the sum of theirs."""

    __slots__ = ()

    def set(self, value: float) -> None:
        """Make it `value`."""
        self.slots[0] = value

    def add(self, amount: float = 1.0) -> None:
        """Add `amount`, which may be negative."""
        self.slots[0] += amount


class Histogram(Child):
    """How many observations fell in each bucket, and their sum."""

    __slots__ = ("_bounds",)

    def __init__(self, slots: Slots, bounds: tuple[float, ...]) -> None:
        super().__init__(slots)
        self._bounds = bounds

    def observe(self, value: float) -> None:
        """Count `value` in its bucket (the first whose bound is not below it), and add it to the sum.

        Raises:
            ValueError: it is not finite: the sum could never recover.
        """
        if not -INFINITY < value < INFINITY:
            raise ValueError(f"a histogram cannot count {value}")
        slots = self.slots
        slots[bisect_left(self._bounds, value)] += 1.0
        slots[-1] += value


ChildT = TypeVar("ChildT", bound=Child)


class Family(Generic[ChildT]):
    """A metric, as `Registry.counter`, `.gauge` or `.histogram` made it: one child per set of label values."""

    __slots__ = ("_allot", "_children", "_lock", "_make", "definition")

    def __init__(
        self,
        definition: Series,
        make: Callable[[Slots], ChildT],
        allot: "Callable[[Series], Slots | None]",
        lock: threading.RLock,
    ) -> None:
        self.definition = definition
        self._make = make
        self._allot = allot
        self._lock = lock
        self._children: dict[tuple[str, ...], ChildT] = {}

    def __repr__(self) -> str:
        definition = self.definition
        return f"<{definition.kind} {definition.name} {definition.labels} of {len(self._children)} series>"

    def labels(self, *values: str) -> ChildT:
        """The child of these label values, in the order in which the labels were declared.

        A value is cut to 256 characters. Beyond the registry's `max_series`, the child is the one whose every label
        is "other".

        Raises:
            ValueError: there are more or fewer values than labels.
            RuntimeError: this process was forked from the one that made the registry.
        """
        child = self._children.get(values)
        return self._resolve(values) if child is None else child

    def detach(self) -> None:
        """Detach every child. The registry's lock must be held."""
        for child in self._children.values():
            child.detach()

    def _resolve(self, values: tuple[str, ...]) -> ChildT:
        names = self.definition.labels
        if len(values) != len(names):
            raise ValueError(f"{self.definition.name} has the labels {names}, so it cannot take the values {values}")
        values = tuple(map(_storable, values))
        with self._lock:
            child = self._children.get(values) or self._new(values)
            if child is None:
                values = (OTHER,) * len(names)
                child = self._children.get(values) or self._new(values)
            # None once more: the disk is full. It is then counted nowhere, which is better than a failed request.
            return child or self._make(private_slots(self.definition.width))

    def _new(self, values: tuple[str, ...]) -> ChildT | None:
        slots = self._allot(msgspec.structs.replace(self.definition, values=values))
        if slots is None:
            return None
        child = self._children[values] = self._make(slots)
        return child


class Registry:
    """The metrics of one process, and the reading of those of all.

    Args:
        folder: shared by the worker processes of one run, on a local file system; None keeps the metrics in the
            memory of this process.
        max_series: how many labelled series this process may make. Whatever is beyond is folded, per metric, into one
            series whose every label is "other", and `workhorse_metrics_series_dropped_total` counts each such look-up.

    Raises:
        StartupError: the folder cannot be used.
    """

    def __init__(self, folder: Path | None, *, max_series: int = 2000) -> None:
        self._store: PrivateSlots | SharedSlots = PrivateSlots() if folder is None else SharedSlots(folder)
        self._max_series = max_series
        self._pid = os.getpid()
        self._closed = False
        # Reentrant, since a finalizer or a signal handler may come in while this thread holds it.
        self._lock = threading.RLock()
        self._families: dict[str, Family[Any]] = {}
        self._inherited = {series.key: slots for series, slots in self._store.inherited()}
        self._labelled = sum(1 for series, _ in self._store.inherited() if _limited(series))
        self._dropped = self.counter(
            "workhorse_metrics_series_dropped_total",
            "Look-ups of label values that were folded into the series other, because there were too many series.",
        ).labels()

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Family[Counter]:  # noqa: A002 - its word
        """Declare a number that only grows. By custom its name ends in `_total`.

        To declare a metric again in the same way returns the same one; this holds for all three kinds.

        Raises:
            ValueError: a name is malformed, or the metric was declared otherwise.
        """
        return self._declare(Series(name, "counter", help, tuple(labels), ()), Counter)

    def gauge(self, name: str, help: str, labels: Sequence[str] = ()) -> Family[Gauge]:  # noqa: A002 - its word
        """Declare a number that rises and falls.

        Raises:
            ValueError: as for `counter`.
        """
        return self._declare(Series(name, "gauge", help, tuple(labels), ()), Gauge)

    def histogram(
        self,
        name: str,
        help: str,  # noqa: A002 - the exposition format's word
        labels: Sequence[str] = (),
        buckets: Sequence[float] = DEFAULT_SECONDS,
    ) -> Family[Histogram]:
        """Declare a distribution. `buckets` are inclusive upper bounds, ascending; the last, +Inf, is implied.

        Raises:
            ValueError: as for `counter`; or the bounds do not ascend, are not finite, or are none or over 200.
        """
        bounds = tuple(float(bound) for bound in buckets)
        ascending = all(low < high for low, high in zip((-INFINITY, *bounds), (*bounds, INFINITY), strict=True))
        if not ascending or not 1 <= len(bounds) <= MAX_BOUNDS:
            raise ValueError(f"the buckets of {name} must be 1 to {MAX_BOUNDS} finite, ascending bounds: {bounds}")
        return self._declare(
            Series(name, "histogram", help, tuple(labels), (), bounds), lambda slots: Histogram(slots, bounds)
        )

    def render(self) -> bytes:
        """What all processes counted, in the Prometheus text format 0.0.4 (`exposition.CONTENT_TYPE`).

        It reads files: with many series, an event loop calls it in a thread.

        Raises:
            RuntimeError: the registry is closed.
        """
        return exposition(self._merged().values())

    def quantile(self, name: str, q: float, /, **label_filter: str) -> float:
        """Estimate a quantile over all processes and all labels that are not filtered; NaN where nothing was counted.

        Raises:
            ValueError: there is no such histogram, or it has no such label.
            RuntimeError: the registry is closed.
        """
        metric = self._find(name)
        if not metric.bounds:
            raise ValueError(f"{name} is a {metric.kind}; only a histogram has quantiles")
        return bucket_quantile(q, metric.bounds, select(metric, label_filter)[:-1])

    def total(self, name: str, /, **label_filter: str) -> float:
        """Add up a counter or gauge over all processes and all labels that are not filtered.

        Of a histogram it is the number of observations.

        Raises:
            ValueError: there is no such metric, or it has no such label.
            RuntimeError: the registry is closed.
        """
        metric = self._find(name)
        numbers = select(metric, label_filter)
        return sum(numbers[:-1]) if metric.bounds else numbers[0]

    def close(self) -> None:
        """Leave the pair of files to the next process. Children may still be used; they count nowhere."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._inherited.clear()
                for family in self._families.values():
                    family.detach()
                self._store.close()

    def _declare(self, definition: Series, make: Callable[[Slots], ChildT]) -> Family[ChildT]:
        _check_names(definition)
        with self._lock:
            present = self._families.get(definition.name)
            if present is None:
                self._check_derived_names(definition)
                family = Family(definition, make, self._allot, self._lock)
                self._families[definition.name] = family
            elif present.definition.key != definition.key:
                raise ValueError(f"{definition.name} is declared as {present!r} already; choose another name")
            else:
                family = present
        if not definition.labels:
            # It is shown as 0 before the first observation, so that a rate over it sees that one too.
            family.labels()
        return family

    def _check_derived_names(self, definition: Series) -> None:
        """A histogram x also takes the names x_bucket, x_sum and x_count."""
        taken = {name + end for name, f in self._families.items() if f.definition.bounds for end in HISTOGRAM_SUFFIXES}
        derived = {definition.name + end for end in HISTOGRAM_SUFFIXES} if definition.bounds else set[str]()
        if definition.name in taken or derived & self._families.keys():
            raise ValueError(f"{definition.name} clashes with the samples of a histogram; choose another name")

    def _allot(self, series: Series) -> "Slots | None":
        """Slots for a series, or None where there is no more room. The lock must be held."""
        if self._closed:
            return private_slots(series.width)
        if os.getpid() != self._pid:
            raise RuntimeError("this process was forked after its Registry was made; make the Registry after the fork")
        slots = self._inherited.pop(series.key, None)
        if slots is not None:
            return slots
        limited = _limited(series)
        if limited and self._labelled >= self._max_series:
            self._dropped.add()
            return None
        try:
            slots = self._store.allocate(series)
        except OSError:
            # The disk is full: a metric is lost, the request that met it is not.
            if limited:
                self._dropped.add()
            return None
        self._labelled += limited
        return slots

    def _merged(self) -> dict[str, Merged]:
        if self._closed:
            raise RuntimeError("the registry is closed; read it before close()")
        own = [family.definition for family in tuple(self._families.values())]
        return merge(
            self._store.read(), (Merged(one.name, one.kind, one.help, one.labels, one.bounds, {}) for one in own)
        )

    def _find(self, name: str) -> Merged:
        merged = self._merged()
        if name not in merged:
            raise ValueError(f"no metric is called {name}; there are {', '.join(sorted(merged))}")
        return merged[name]


def _limited(series: Series) -> bool:
    """Whether it counts towards `max_series`: labelled, and not the one that takes the overflow."""
    return any(value != OTHER for value in series.values)


def _storable(value: str) -> str:
    """Cut to the bound, and free of lone surrogates, which no encoding of the output has."""
    return value[:MAX_LABEL_CHARACTERS].encode(errors="replace").decode()


def _check_names(definition: Series) -> None:
    if not METRIC_NAME.fullmatch(definition.name):
        raise ValueError(f"{definition.name!r} cannot name a metric; use letters, digits, _ and :")
    labels = definition.labels
    for label in labels:
        if not LABEL_NAME.fullmatch(label) or (label == "le" and definition.bounds) or labels.count(label) > 1:
            raise ValueError(f"{definition.name} cannot have the labels {labels}; mend {label!r}")
