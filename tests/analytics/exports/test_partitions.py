"""Batches are cut where their partition changes, and a partition's folder is its own."""

from itertools import pairwise
from urllib.parse import unquote

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workhorse.analytics.exports import ExportRefused
from workhorse.analytics.exports.partitions import NULL, cut, folder_of

KEYS = st.tuples(st.none() | st.integers(1, 3), st.none() | st.sampled_from(["a", "b", ""]))


@given(st.lists(KEYS, max_size=30))
def test_the_runs_of_a_batch_are_its_rows_in_order_each_of_one_partition(
    keys: list[tuple[int | None, str | None]],
) -> None:
    batch = pa.RecordBatch.from_pydict(
        {
            "x": pa.array([key[0] for key in keys], pa.int32()),
            "y": pa.array([key[1] for key in keys], pa.string()),
            "row": pa.array(range(len(keys)), pa.int64()),
        }
    )
    runs = list(cut(batch, ["x", "y"]))
    assert [row for _, run in runs for row in run.column("row").to_pylist()] == list(range(len(keys)))
    assert all(first != second for (first, _), (second, _) in pairwise(runs))
    for key, run in runs:
        assert run.schema.names == ["row"]
        for row in run.column("row").to_pylist():
            x, y = keys[row]
            assert key == (None if x is None else str(x), y)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_a_folder_is_one_folder_whose_name_tells_the_value(value: str) -> None:
    if value in {".", ".."}:
        return
    folder = folder_of(["r"], (value,))
    assert folder.startswith("r=")
    assert "/" not in folder
    assert folder.isascii()
    assert folder.isprintable()
    assert unquote(folder.removeprefix("r=")) == value


@pytest.mark.parametrize("value", ["", ".", "..", NULL])
def test_a_value_that_no_folder_can_be_called_is_refused(value: str) -> None:
    with pytest.raises(ExportRefused, match="cannot be called"):
        folder_of(["r"], (value,))


def test_null_has_the_folder_that_hive_gives_it() -> None:
    assert folder_of(["r", "s"], (None, "x")) == f"r={NULL}/s=x"
