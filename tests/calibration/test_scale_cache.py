"""Tables are found again for the same graph, footage and method, and for nothing else, whatever state the files are in."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.activations import ActivationRange, ScaleTable
from calibration.scale_cache import ScaleCache, digest

TABLE = ScaleTable("mse", "a test", {"x": ActivationRange(-1.5, 2.25, 2.0, 10)})


def never() -> ScaleTable:
    raise AssertionError("measured again")


def test_a_table_is_measured_once_and_readable(tmp_path):
    cache = ScaleCache(tmp_path / "scales")
    table, path, reused = cache.table("a" * 64, "b" * 64, "mse", lambda: TABLE)
    assert not reused and (table.model, table.frames, table.tensors) == ("a" * 64, "b" * 64, TABLE.tensors)
    assert '"clip": 2.0' in path.read_text() and ScaleTable.load(path) == table
    assert cache.table("a" * 64, "b" * 64, "mse", never) == (table, path, True)


@pytest.mark.parametrize(
    "key",
    [("c" * 64, "b" * 64, "mse"), ("a" * 64, "c" * 64, "mse"), ("a" * 64, "b" * 64, "max"), ("a" * 63 + "c", "b" * 64, "mse")],
)
def test_another_graph_other_footage_or_another_method_is_measured(tmp_path, key):
    """The last one has the same file name, which holds a part of the hashes only."""
    cache = ScaleCache(tmp_path)
    cache.table("a" * 64, "b" * 64, "mse", lambda: TABLE)
    assert cache.table(*key, lambda: ScaleTable(key[2], "another", TABLE.tensors))[0].made_from == "another"


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff" * 40])
def test_damaged_files_are_measured_again_and_written_over(tmp_path, damage):
    cache = ScaleCache(tmp_path)
    _, path, _ = cache.table("a" * 64, "b" * 64, "mse", lambda: TABLE)
    measured = {"x": np.arange(6.0).reshape(2, 3)}
    cache.arrays("means", "a" * 64, "b" * 64, lambda: measured)
    (other,) = tmp_path.glob("*.npz")
    for file in (path, other):
        file.write_bytes(damage)
    assert cache.table("a" * 64, "b" * 64, "mse", lambda: TABLE)[2] is False
    assert cache.arrays("means", "a" * 64, "b" * 64, lambda: measured) is measured
    assert cache.table("a" * 64, "b" * 64, "mse", never)[2] is True
    np.testing.assert_array_equal(cache.arrays("means", "a" * 64, "b" * 64, dict)["x"], measured["x"])


def test_arrays_of_another_graph_are_not_taken(tmp_path):
    cache = ScaleCache(tmp_path)
    cache.arrays("means", "a" * 64, "b" * 64, lambda: {"x": np.zeros(2)})
    assert cache.arrays("means", "a" * 63 + "c", "b" * 64, lambda: {"x": np.ones(2)})["x"].tolist() == [1.0, 1.0]


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_cache(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = ScaleCache(tmp_path / "file" / "scales")
    assert cache.table("a" * 64, "b" * 64, "mse", lambda: TABLE)[2] is False
    assert cache.table("a" * 64, "b" * 64, "mse", lambda: TABLE)[2] is False


def test_a_digest_tells_kinds_shapes_and_borders_apart():
    zeros = np.zeros(4, np.float32)
    parts = [[zeros], [zeros.reshape(2, 2)], [zeros.view(np.int32)], [b"ab", b"c"], [b"a", b"bc"], ["abc"], [zeros[:2], zeros[2:]]]
    assert len({digest(each) for each in parts}) == len(parts)
    assert digest([zeros.reshape(2, 2).T]) == digest([zeros.reshape(2, 2)])
