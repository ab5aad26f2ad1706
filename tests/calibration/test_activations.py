"""Ranges: the histogram against exact numbers, the clip against a brute-force search, the table against a round trip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from calibration.activations import (
    ActivationRange,
    ScaleTable,
    choose_ranges,
    measure_channels,
    measure_histograms,
)
from calibration.histogram import BINS, LEVELS, CalibrationError, MagnitudeHistogram

FLOATS = st.floats(-1e6, 1e6, width=32)


@given(st.lists(arrays(np.float32, array_shapes(max_dims=3, max_side=6), elements=FLOATS), min_size=1, max_size=6))
def test_extremes_and_counts_are_exact_in_whatever_batches_the_values_come(batches):
    histogram = MagnitudeHistogram()
    for batch in batches:
        histogram.add(batch)
    everything = np.concatenate([batch.ravel() for batch in batches])
    assert (histogram.low, histogram.high) == (everything.min(), everything.max())
    assert len(everything) == histogram.counts.sum()
    assert histogram.clip("max") == max(np.abs(everything).max(), np.float32(2.0**-40))
    below = histogram.limit / 2
    assert histogram.counts[: BINS // 2].sum() == pytest.approx((np.abs(everything) < below).sum(), abs=1)


@pytest.mark.parametrize("percentile", [50.0, 99.0, 99.9])
def test_percentiles_are_those_of_numpy_to_within_a_bin(percentile):
    values = np.random.default_rng(0).standard_t(3, 100_000).astype(np.float32)
    histogram = MagnitudeHistogram()
    for part in np.array_split(np.sort(np.abs(values)), 7):  # ascending, so that the limit has to double
        histogram.add(part)
    clip = histogram.clip("percentile", percentile)
    assert clip == pytest.approx(np.percentile(np.abs(values), percentile), abs=2 * histogram.limit / BINS)


def quantization_error(values: np.ndarray, clip: float) -> float:
    step = clip / LEVELS
    return float(np.mean((np.clip(np.rint(values / step), -LEVELS, LEVELS) * step - values) ** 2))


@pytest.mark.parametrize(("name", "degrees"), [("heavy tails", 4), ("light tails", 200)])
def test_the_mse_clip_is_about_as_good_as_the_best_that_brute_force_finds(name, degrees):
    values = np.random.default_rng(0).standard_t(degrees, 50_000)
    histogram = MagnitudeHistogram()
    histogram.add(values)
    found = histogram.clip("mse")
    amax = np.abs(values).max()
    best = min(quantization_error(values, clip) for clip in amax * np.linspace(0.5, 1.0, 101))
    assert quantization_error(values, found) <= 1.05 * best
    if name == "heavy tails":
        assert found < amax


def test_values_that_are_no_numbers_are_refused():
    with pytest.raises(CalibrationError, match="not a finite number"):
        MagnitudeHistogram().add(np.array([1.0, np.inf], np.float32))
    with pytest.raises(CalibrationError, match="not a finite number"):
        MagnitudeHistogram().add(np.array([1.0, np.nan], np.float32))


def test_a_graph_is_watched_batch_by_batch():
    onnx = pytest.importorskip("onnx", reason="graphs are built with the onnx package")
    from onnx import TensorProto, helper

    nodes = [helper.make_node("Mul", ["x", "x"], ["square"]), helper.make_node("Neg", ["square"], ["y"])]
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (3,)) for name in ("x", "y", "square")]
    graph = helper.make_graph(nodes, "g", shapes[:1], shapes[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model)
    seen: list[int] = []
    batches = ({"x": np.array([i, 1, 2], np.float32)} for i in range(4))
    watched = ["square", "y"]
    histograms = measure_histograms(model.SerializeToString(), watched, batches, progress=seen.append)
    table = choose_ranges(histograms, "max", made_from="a test")
    assert table.tensors["square"] == ActivationRange(0.0, 9.0, 9.0, 12)
    assert table.tensors["y"].low == -9.0 and table.tensors["y"].scale == float(np.float16(9.0 / 127))
    assert seen == [1, 2, 3, 4]
    with pytest.raises(CalibrationError, match="no calibration data"):
        measure_histograms(model.SerializeToString(), ["square"], [])
    falling = ({"x": np.array([3 - i, -1, i], np.float32)} for i in range(4))
    peaks = measure_channels(model.SerializeToString(), ["square", "y"], falling)
    assert peaks["square"].tolist() == peaks["y"].tolist() == [9.0, 1.0, 9.0]


def test_tables_survive_the_file_and_broken_ones_are_refused(tmp_path):
    table = ScaleTable("mse", "a test", {"x": ActivationRange(-1.5, 2.25, 2.0, 10), "y": ActivationRange(0.0, 9.0, 4.0, 10, 3.5)})
    path = tmp_path / "scales.json"
    table.save(path)
    assert ScaleTable.load(path) == table
    for text, said in (
        (path.read_text().replace("2.0,", "0.0,"), "clip 0.0 for 'x'"),
        (path.read_text().replace('"clip"', '"clap"'), "is not valid"),
        ("{", "is not valid"),
    ):
        path.write_text(text)
        with pytest.raises(CalibrationError, match=said) as caught:
            ScaleTable.load(path)
        assert "\n" not in str(caught.value) and "scales.json" in str(caught.value)
    with pytest.raises(CalibrationError, match=r"cannot be read \(No such file"):
        ScaleTable.load(tmp_path / "none.json")
