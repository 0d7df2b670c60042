"""A strict reader of the Prometheus text format 0.0.4: whatever the format does not allow is an AssertionError."""

import math
import re
from typing import NamedTuple

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\S+)")
PAIR = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"')
NUMBER = re.compile(r"[+-]?Inf|NaN|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


class Sample(NamedTuple):
    name: str
    labels: dict[str, str]
    value: float


class ParsedMetric(NamedTuple):
    kind: str
    help: str
    samples: list[Sample]


def parse(data: bytes) -> dict[str, ParsedMetric]:
    text = data.decode()
    assert text == "" or text.endswith("\n"), "the last line must end"
    metrics: dict[str, ParsedMetric] = {}
    pending_help: tuple[str, str] | None = None
    name = ""
    seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
    for line in text.split("\n")[:-1]:
        if line.startswith("# HELP "):
            name, _, help_text = line.removeprefix("# HELP ").partition(" ")
            assert name not in metrics, f"{name} comes twice"
            assert not re.search(r"(?<!\\)(?:\\\\)*\\(?![\\n])", help_text), f"bad escape: {help_text}"
            pending_help = (name, help_text)
        elif line.startswith("# TYPE "):
            typed, _, kind = line.removeprefix("# TYPE ").partition(" ")
            assert pending_help is not None
            assert typed == pending_help[0]
            assert kind in SUFFIXES
            metrics[typed] = ParsedMetric(kind, _unescape(pending_help[1]), [])
        else:
            match = SAMPLE.fullmatch(line)
            assert match, f"not a sample: {line!r}"
            assert NUMBER.fullmatch(match[3]), f"not a number: {line!r}"
            labels = {label: _unescape(value) for label, value in PAIR.findall(match[2] or "")}
            assert len(labels) == len(PAIR.findall(match[2] or "")), f"a label comes twice: {line!r}"
            metric = metrics[name]
            assert match[1].removeprefix(name) in SUFFIXES[metric.kind], f"{line!r} is not of {name}"
            key = (match[1], tuple(sorted(labels.items())))
            assert key not in seen, f"a sample comes twice: {line!r}"
            seen.add(key)
            metric.samples.append(Sample(match[1], labels, float(match[3])))
    for name, metric in metrics.items():
        assert metric.samples, f"{name} has no sample"
        if metric.kind == "histogram":
            _check_histogram(name, metric)
    return metrics


def value_of(metrics: dict[str, ParsedMetric], name: str, **labels: str) -> float:
    family = next(n for n in (name, *(name.removesuffix(s) for s in SUFFIXES["histogram"])) if n in metrics)
    (found,) = [s.value for s in metrics[family].samples if s.name == name and s.labels == labels]
    return found


def _unescape(text: str) -> str:
    return re.sub(r'\\([\\"n])', lambda m: "\n" if m[1] == "n" else m[1], text)


def _check_histogram(name: str, metric: ParsedMetric) -> None:
    buckets: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    counts: dict[tuple[tuple[str, str], ...], float] = {}
    sums: set[tuple[tuple[str, str], ...]] = set()
    for sample in metric.samples:
        key = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
        if sample.name == f"{name}_bucket":
            buckets.setdefault(key, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name == f"{name}_count":
            counts[key] = sample.value
        else:
            sums.add(key)
    assert buckets.keys() == counts.keys() == sums
    for key, steps in buckets.items():
        assert steps == sorted(steps), f"buckets do not ascend: {steps}"
        assert math.isinf(steps[-1][0])
        assert steps[-1][1] == counts[key]
