"""The gate holds: a model that INT8 ruins gives no bundle, names the layer that does it, and passes with it in float."""

from __future__ import annotations

import dataclasses
import platform

import numpy as np
import onnx
import pytest
from onnx import helper

from edge.bundle import load
from edge.cli import main
from export.acceptance import TOLD, linted
from export.footage import run_length
from export.frames import read_footage
from export.gate import LIMITS, Limit, failures
from export.pipeline import export_bundle, sentence_of
from export.quantize import sensitivity
from export.sources.onnx_pair import open_onnx_pair
from tests.export.sources.pair import write_pair, write_pictures

OUTLIER = 3000.0
"""One channel that is so much larger than its neighbours that one scale for all leaves them nothing."""


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("frames"), 80, (32, 48))


def export_pair(path, frames, out, **settings):
    source = open_onnx_pair(path)
    footage = read_footage(str(frames), source.picture, source.time.step_s, run_length(source), 8)
    return export_bundle(source, footage, out, **settings)


def test_an_ordinary_model_passes_and_all_its_gemms_are_integers(tmp_path, frames):
    outcome = export_pair(write_pair(tmp_path, robot=True), frames, tmp_path / "bundle")
    assert outcome.failures == [] and outcome.bundle is not None
    report = load(tmp_path / "bundle").manifest.int8
    assert report["linears_quantized"] == {"encoder": 2, "predictor": 1, "rollout": 1}
    if platform.machine() == "x86_64":
        assert report["integer_gemms"] == report["linears_quantized"]
    assert report["lint"] == {"jetpack6": [], "jetpack7": []}
    assert report["planner"]["rank_correlation"] >= 0.99
    assert 0.0 < report["encoder"]["relative_error"] < 0.05 and report["encoder"]["share_of_variance"] > 0.0
    assert 0.0 < report["predictor"]["relative_error_at_1"] < 0.05 and "relative_error_at_3" in report["predictor"]


@pytest.fixture
def all_in_int8(monkeypatch):
    """No layer may be kept in float, so that what INT8 ruins stays ruined."""
    monkeypatch.setattr(sensitivity, "MOST_IN_FLOAT", 0.0)


@pytest.mark.usefixtures("all_in_int8")
def test_a_ruined_model_is_refused_and_the_old_bundle_stays(tmp_path, frames):
    assert export_pair(write_pair(tmp_path), frames, tmp_path / "bundle").bundle is not None
    before = load(tmp_path / "bundle").sha256
    outcome = export_pair(write_pair(tmp_path, outlier=OUTLIER), frames, tmp_path / "bundle")
    assert outcome.bundle is None and load(tmp_path / "bundle").sha256 == before
    layer, error = outcome.blame["encoder"][0]
    assert layer.endswith("second") and error > 0.05 > 5 * outcome.blame["encoder"][1][1]
    assert "encoder cosine is 0." in sentence_of(outcome) and f"--keep-float {layer}" in sentence_of(outcome)


def test_the_layer_that_ruins_a_model_is_found_and_kept_in_float(tmp_path, frames):
    """And the predictor is calibrated anew on latents that are no longer ruined."""
    outcome = export_pair(write_pair(tmp_path, outlier=OUTLIER), frames, tmp_path / "bundle")
    assert outcome.failures == []
    report = load(tmp_path / "bundle").manifest.int8
    ((layer, reason),) = report["kept_in_float"]["encoder"].items()
    assert layer.endswith("second") and "encoder cosine is 0." in reason and report["kept_in_float"].keys() == {"encoder"}
    assert report["linears_quantized"] == report["integer_gemms"] == {"encoder": 1, "predictor": 1}
    named = export_pair(write_pair(tmp_path, outlier=OUTLIER), frames, tmp_path / "named", keep_float=("second",))
    for graph in ("encoder.onnx", "predictor.onnx"):
        assert (tmp_path / "bundle" / graph).read_bytes() == (tmp_path / "named" / graph).read_bytes()
    assert named.report["predictor"] == report["predictor"]


def test_dynamic_scales_pass_without_a_table(tmp_path, frames):
    outcome = export_pair(write_pair(tmp_path, robot=True), frames, tmp_path / "bundle", dynamic=True)
    assert outcome.failures == [] and "dynamic" in outcome.report["scales"] and not (tmp_path / "bundle/calibration").exists()
    assert outcome.report["integer_gemms"] == outcome.report["linears_quantized"] == {"encoder": 2, "predictor": 1, "rollout": 1}
    assert outcome.report["lint"]["jetpack6"] and 0.0 < outcome.report["encoder"]["relative_error"] < 0.05


def test_the_layer_that_ruins_dynamic_scales_is_kept_in_float_too(tmp_path, frames):
    outcome = export_pair(write_pair(tmp_path, outlier=OUTLIER), frames, tmp_path / "bundle", dynamic=True)
    assert outcome.failures == []
    ((layer, reason),) = outcome.report["kept_in_float"]["encoder"].items()
    assert layer.endswith("second") and "encoder cosine is 0." in reason
    assert outcome.report["linears_quantized"] == outcome.report["integer_gemms"] == {"encoder": 1, "predictor": 1}


@pytest.mark.usefixtures("all_in_int8")
def test_dynamic_scales_that_cannot_be_mended_name_their_layer(tmp_path, frames):
    outcome = export_pair(write_pair(tmp_path, outlier=OUTLIER), frames, tmp_path / "bundle", dynamic=True)
    assert outcome.bundle is None and outcome.blame["encoder"][0][0].endswith("second")


def add_determinant(path):
    """An operator that onnxruntime runs and TensorRT has not; the latent stays what it was."""
    model = onnx.load(str(path))
    model.graph.node[-1].output[0] = "plain"
    side, nothing = np.array([1, 4, 4], np.int64), np.zeros(1, np.float32)
    model.graph.initializer.extend([onnx.numpy_helper.from_array(side, "side"), onnx.numpy_helper.from_array(nothing, "nothing")])
    model.graph.node.extend(
        [
            helper.make_node("Reshape", ["plain", "side"], ["square"], "square"),
            helper.make_node("Det", ["square"], ["volume"], "how_large"),
            helper.make_node("Mul", ["volume", "nothing"], ["still"], "still"),
            helper.make_node("Add", ["plain", "still"], ["z"], "together"),
        ]
    )
    onnx.save(model, str(path))


def test_a_target_is_part_of_the_verdict_and_says_node_reason_and_remedy(tmp_path, frames, capsys):
    path = write_pair(tmp_path)
    asked = ["export", "onnx", str(path), "--frames", str(frames), "--out", str(tmp_path / "bundle")]
    assert main([*asked, "--target", "jetpack6"]) == 0
    before = load(tmp_path / "bundle")
    assert before.manifest.int8["target"] == {"name": "jetpack6", "refusals": 0}
    assert before.manifest.int8["lint"] == {"jetpack6": []}
    add_determinant(tmp_path / "encoder.onnx")
    capsys.readouterr()
    assert main([*asked, "--target", "jetpack6"]) == 1
    said = capsys.readouterr().err
    assert "below the gate: number of nodes that the target refuses or gets wrong is 1 and must be at most 0" in said
    (finding,) = (line for line in said.splitlines() if line.startswith("jetpack6: encoder: unknown-operator (rejected): "))
    assert "how_large" in finding and "no operator Det: write it with" in finding and "mend these nodes" in said
    assert load(tmp_path / "bundle").sha256 == before.sha256
    assert main(asked) == 0 and load(tmp_path / "bundle").manifest.int8["lint"]["jetpack6"]  # nobody named a target
    assert main([*asked, "--target", "cpu"]) == 0
    assert load(tmp_path / "bundle").manifest.int8["target"] == {"name": "cpu", "float_gemms": 0}


def test_dynamic_scales_and_a_jetpack_are_refused_before_the_work(tmp_path, frames, capsys):
    asked = ["export", "onnx", str(write_pair(tmp_path)), "--frames", str(frames), "--out", str(tmp_path / "bundle"), "--dynamic"]
    assert main([*asked, "--target", "jetpack7"]) == 2
    said = capsys.readouterr().err
    assert said == "latentloop: --dynamic is for CPUs only and --target jetpack7 has a GPU: leave one of them out\n"


def test_the_blamed_layer_in_float_passes(tmp_path, frames):
    outcome = export_pair(write_pair(tmp_path, outlier=OUTLIER), frames, tmp_path / "bundle", keep_float=("second",))
    assert outcome.failures == [] and outcome.report["linears_quantized"]["encoder"] == 1


def test_a_graph_that_differs_from_its_origin_is_refused(tmp_path, frames):
    source = open_onnx_pair(write_pair(tmp_path))
    origin = dataclasses.replace(source, peer=lambda part, feed: np.ones((1, 1, 16), np.float32))
    footage = read_footage(str(frames), source.picture, source.time.step_s, run_length(source), 4)
    outcome = export_bundle(origin, footage, tmp_path / "bundle")
    assert [failure.limit.section for failure in outcome.failures] == ["parity", "parity"]
    assert not (tmp_path / "bundle").exists() and "the exported graph is wrong" in sentence_of(outcome)


def test_the_same_inputs_give_the_same_bytes(tmp_path, frames):
    path = write_pair(tmp_path)
    one, other = (export_pair(path, frames, tmp_path / name).bundle for name in ("one", "other"))
    assert one is not None and other is not None and one.sha256 == other.sha256


@pytest.mark.usefixtures("all_in_int8")
def test_the_command_says_why_and_exits_with_1(tmp_path, frames, capsys):
    path = write_pair(tmp_path, outlier=OUTLIER)
    assert main(["export", "onnx", str(path), "--frames", str(frames), "--out", str(tmp_path / "bundle")]) == 1
    said = capsys.readouterr()
    assert "below the gate: encoder cosine" in said.err and "second (" in said.err and said.out == ""
    assert not (tmp_path / "bundle").exists()


def test_a_folder_of_something_else_is_refused_before_the_work(tmp_path, frames, capsys):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years")
    path = write_pair(tmp_path)
    assert main(["export", "onnx", str(path), "--frames", str(frames), "--out", str(tmp_path / "thesis")]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and (tmp_path / "thesis" / "chapter.txt").read_text() == "years"


@pytest.mark.parametrize("kind", ["lewm", "onnx"])
def test_the_command_tells_bad_input_in_one_line(tmp_path, frames, capsys, kind):
    assert main(["export", kind, str(tmp_path / "none"), "--frames", str(frames), "--out", str(tmp_path / "bundle")]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "none" in last and "cannot be read" in last


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: f"{limit.section}.{limit.figure}")
def test_every_limit_holds_from_both_sides(limit: Limit):
    edge = limit.least if np.isfinite(limit.least) else limit.most
    outward = -1e-6 if np.isfinite(limit.least) else 1e-6
    assert failures({limit.section: {limit.figure: edge}}) == []
    for value in (edge + outward, float("nan")):
        (failure,) = failures({limit.section: {limit.figure: value}})
        assert failure.limit == limit and limit.figure.replace("_", " ") in failure.sentence


def test_what_tensorrt_will_not_run_is_told_and_kept():
    square = helper.make_tensor_value_info("square", onnx.TensorProto.FLOAT, (1, 3, 3))
    volume = helper.make_tensor_value_info("volume", onnx.TensorProto.FLOAT, (1,))
    graph = helper.make_graph([helper.make_node("Det", ["square"], ["volume"], "how_large")], "g", [square], [volume])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    said: list[str] = []
    found = linted({"encoder": model.SerializeToString()}, said.append)
    assert ["encoder" in line and "Det" in line for line in found["jetpack6"]] == [True]
    assert [line.split()[0] for line in said] == ["jetpack6", "jetpack7"]


def test_of_many_findings_a_few_are_told_and_all_kept():
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Det", ["square"], [f"volume{n}"], f"how_large{n}") for n in range(TOLD + 4)]
    volumes = [value(node.output[0], onnx.TensorProto.FLOAT, (1,)) for node in nodes]
    graph = helper.make_graph(nodes, "g", [value("square", onnx.TensorProto.FLOAT, (1, 3, 3))], volumes)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    said: list[str] = []
    found = linted({"encoder": model.SerializeToString()}, said.append)
    assert len(found["jetpack6"]) == TOLD + 4 and len(said) == 2 * (TOLD + 1)
    assert said[TOLD] == "jetpack6 will not run it: 4 more such findings are in the report"
