import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.telemetry.exposition_parser import parse, value_of
from workhorse.errors import StartupError
from workhorse.telemetry import Registry

DROPPED = "workhorse_metrics_series_dropped_total"


@pytest.fixture(params=["private", "shared"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "metrics" if request.param == "shared" else None


@pytest.fixture
def registry(folder: Path | None) -> Iterator[Registry]:
    registry = Registry(folder, max_series=50)
    yield registry
    registry.close()


def test_what_was_observed_is_rendered(registry: Registry) -> None:
    requests = registry.counter("app_requests_total", "Requests.", ("method", "status"))
    seconds = registry.histogram("app_seconds", "Time.", ("method",), buckets=(0.1, 1))
    load = registry.gauge("app_load", "Load.")
    requests.labels("GET", "200").add()
    requests.labels("GET", "200").add(2)
    requests.labels("POST", "500").add(0.5)
    for value in (0.05, 0.1, 0.5, 7):
        seconds.labels("GET").observe(value)
    load.labels().set(9)
    load.labels().add(-2.5)
    metrics = parse(registry.render())
    assert value_of(metrics, "app_requests_total", method="GET", status="200") == 3
    assert value_of(metrics, "app_requests_total", method="POST", status="500") == 0.5
    assert value_of(metrics, "app_load") == 6.5
    assert value_of(metrics, "app_seconds_bucket", method="GET", le="0.1") == 2
    assert value_of(metrics, "app_seconds_bucket", method="GET", le="1") == 3
    assert value_of(metrics, "app_seconds_count", method="GET") == 4
    assert value_of(metrics, "app_seconds_sum", method="GET") == pytest.approx(7.65)
    assert registry.total("app_requests_total") == 3.5
    assert registry.total("app_requests_total", method="POST") == 0.5
    assert registry.total("app_seconds") == 4


def test_a_metric_without_labels_is_zero_before_the_first_observation(registry: Registry) -> None:
    registry.counter("app_jobs_total", "Jobs.")
    assert value_of(parse(registry.render()), "app_jobs_total") == 0


def test_declared_again_in_the_same_way_it_is_the_same_metric(registry: Registry) -> None:
    first = registry.counter("app_total", "Help.", ("a",))
    assert registry.counter("app_total", "Better help.", ("a",)) is first
    assert first.labels("x") is first.labels("x")


Use = Callable[[Registry], object]


@pytest.mark.parametrize(
    ("message", "use"),
    [
        ("declared as", lambda r: r.gauge("app_x", "")),
        ("declared as", lambda r: r.counter("app_x", "", ("b",))),
        ("declared as", lambda r: r.histogram("app_h", "", buckets=(1, 3))),
        ("samples of a histogram", lambda r: r.counter("app_h_sum", "")),
        ("samples of a histogram", lambda r: r.histogram("app", "", buckets=(1,))),
        ("cannot name a metric", lambda r: r.counter("0x", "")),
        ("mend '__a'", lambda r: r.counter("app_y", "", ("__a",))),
        ("mend 'a'", lambda r: r.counter("app_y", "", ("a", "a"))),
        ("mend 'le'", lambda r: r.histogram("app_z", "", ("le",))),
        ("ascending", lambda r: r.histogram("app_z", "", buckets=())),
        ("ascending", lambda r: r.histogram("app_z", "", buckets=(2, 1))),
        ("ascending", lambda r: r.histogram("app_z", "", buckets=(1, math.inf))),
        ("ascending", lambda r: r.histogram("app_z", "", buckets=(math.nan,))),
        ("cannot take the values", lambda r: r.counter("app_x", "", ("a",)).labels()),
        ("cannot take the values", lambda r: r.counter("app_x", "", ("a",)).labels("1", "2")),
        ("cannot grow by -1", lambda r: r.counter("app_x", "", ("a",)).labels("1").add(-1)),
        ("cannot grow by nan", lambda r: r.counter("app_x", "", ("a",)).labels("1").add(math.nan)),
        ("cannot count inf", lambda r: r.histogram("app_h", "", buckets=(1, 2)).labels().observe(math.inf)),
        ("no metric is called", lambda r: r.total("app_none")),
        ("the labels of app_x", lambda r: r.total("app_x", b="1")),
        ("only a histogram", lambda r: r.quantile("app_x", 0.5)),
    ],
)
def test_what_does_not_fit_is_refused(registry: Registry, message: str, use: Use) -> None:
    registry.counter("app_x", "", ("a",))
    registry.gauge("app_count", "")
    registry.histogram("app_h", "", buckets=(1, 2))
    with pytest.raises(ValueError, match=message):
        use(registry)


def test_label_sets_over_the_bound_are_folded_and_counted(registry: Registry) -> None:
    users = registry.counter("app_users_total", "Users.", ("user", "kind"))
    for number in range(80):
        users.labels(str(number), "x").add()
    assert registry.total("app_users_total") == 80
    assert registry.total("app_users_total", user="other", kind="other") == 30
    assert registry.total(DROPPED) == 30
    users.labels("7", "x").add()
    assert registry.total("app_users_total", user="7") == 2


def test_a_metric_without_labels_is_not_subject_to_the_bound(registry: Registry) -> None:
    family = registry.counter("app_total", "", ("a",))
    for number in range(60):
        family.labels(str(number))
    registry.counter("app_late_total", "").labels().add()
    assert registry.total("app_late_total") == 1


def test_a_long_value_is_cut_and_a_lone_surrogate_replaced(registry: Registry) -> None:
    paths = registry.counter("app_paths_total", "", ("path",))
    paths.labels("a" * 300).add()
    paths.labels("a" * 400).add()
    paths.labels("\udc80").add()
    metrics = parse(registry.render())
    assert value_of(metrics, "app_paths_total", path="a" * 256) == 2
    assert value_of(metrics, "app_paths_total", path="?") == 1


@given(value=st.text(max_size=60), help_text=st.text(max_size=60))
def test_whatever_a_label_or_help_holds_is_read_back(value: str, help_text: str) -> None:
    registry = Registry(None)
    registry.counter("app_total", help_text, ("a",)).labels(value).add()
    metric = parse(registry.render())["app_total"]
    registry.close()
    assert metric.help == help_text
    assert [(s.labels, s.value) for s in metric.samples] == [({"a": value}, 1.0)]


def test_more_slots_than_one_chunk_holds_are_kept_apart(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    family = registry.histogram("app_seconds", "", ("a",), buckets=tuple(range(1, 101)))
    for number in range(200):
        family.labels(str(number)).observe(number)
    assert (tmp_path / "v1-0000.slots").stat().st_size == 3 * 65536
    assert [registry.total("app_seconds", a=str(n)) for n in range(200)] == [1] * 200
    assert registry.quantile("app_seconds", 0.5, a="60") == pytest.approx(59.5)
    registry.close()


def test_a_successor_goes_on_counting_and_its_gauges_begin_at_zero(tmp_path: Path) -> None:
    for turn in range(1, 4):
        registry = Registry(tmp_path)
        counter = registry.counter("app_total", "", ("a",))
        gauge = registry.gauge("app_open", "", ("a",))
        counter.labels("x").add(5)
        gauge.labels("x").add(3)
        assert registry.total("app_total") == 5 * turn
        assert registry.total("app_open") == 3
        registry.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v1-0000.series", "v1-0000.slots", "v1.lock"]


def test_a_successor_counts_what_it_inherits_towards_the_bound(tmp_path: Path) -> None:
    for turn in range(3):
        registry = Registry(tmp_path, max_series=4)
        family = registry.counter("app_total", "", ("a",))
        for number in range(3):
            family.labels(f"{turn}-{number}").add()
        assert registry.total("app_total") == 3 * (turn + 1)
        registry.close()
    assert (tmp_path / "v1-0000.series").read_bytes().count(b"app_total") == 5


def test_another_version_of_the_program_that_declares_a_metric_otherwise_begins_anew(tmp_path: Path) -> None:
    old = Registry(tmp_path)
    old.counter("app_total", "", ("a",)).labels("x").add(7)
    old.close()
    new = Registry(tmp_path)
    new.counter("app_total", "", ("b",)).labels("y").add()
    assert new.total("app_total") == 1
    assert value_of(parse(new.render()), "app_total", b="y") == 1
    new.close()


@pytest.mark.parametrize(
    "torn", [b'{"name":"app_to', b"\xff\xfe", b'{"name":"app_total"}\n{"at":', b"\n\n[]\n{}\nnull"]
)
def test_a_definitions_file_that_broke_off_is_read_as_far_as_it_goes(tmp_path: Path, torn: bytes) -> None:
    first = Registry(tmp_path)
    first.counter("app_total", "", ("a",)).labels("x").add(7)
    with (tmp_path / "v1-0000.series").open("ab") as file:
        file.write(torn)
    assert first.total("app_total") == 7
    first.close()
    second = Registry(tmp_path)
    family = second.counter("app_total", "", ("a",))
    family.labels("x").add()
    family.labels("y").add(10)
    assert second.total("app_total", a="x") == 8
    assert second.total("app_total", a="y") == 10
    second.close()


def test_a_definition_that_points_outside_its_slots_is_ignored(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    with (tmp_path / "v1-0000.series").open("ab") as file:
        for at in (-1, 8192, 10**30):
            file.write(b'{"name":"app_x","kind":"counter","help":"","labels":[],"values":[],"at":%d}\n' % at)
    assert b"app_x" not in registry.render()
    registry.close()


def test_slots_cut_off_in_the_middle_are_made_whole_again(tmp_path: Path) -> None:
    Registry(tmp_path).close()
    os.truncate(tmp_path / "v1-0000.slots", 100)
    registry = Registry(tmp_path)
    registry.counter("app_total", "").labels().add()
    assert registry.total("app_total") == 1
    registry.close()


def test_after_close_a_child_still_takes_observations_and_touches_no_file(folder: Path | None) -> None:
    registry = Registry(folder)
    counter = registry.counter("app_total", "", ("a",))
    child = counter.labels("x")
    child.add()
    before = [p.read_bytes() for p in sorted(folder.iterdir())] if folder else []
    registry.close()
    registry.close()
    child.add()
    counter.labels("new").add()
    assert before == ([p.read_bytes() for p in sorted(folder.iterdir())] if folder else [])
    with pytest.raises(RuntimeError, match="closed"):
        registry.render()


def test_a_folder_that_cannot_be_used_is_a_startup_error_that_names_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(StartupError, match=str(file)):
        Registry(file)


def test_observations_of_many_threads_are_all_counted(registry: Registry) -> None:
    counter = registry.counter("app_total", "", ("a",)).labels("x")
    seconds = registry.histogram("app_seconds", "")
    family = registry.counter("app_new_total", "", ("a",))

    def observe() -> None:
        for number in range(20_000):
            counter.add()
            seconds.labels().observe(0.5)
            if number % 500 == 0:
                family.labels(str(number)).add()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=observe) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert registry.total("app_total") == 80_000
    assert registry.total("app_seconds") == 80_000
    assert registry.total("app_new_total") == 160
    assert value_of(parse(registry.render()), "app_seconds_sum") == 40_000
