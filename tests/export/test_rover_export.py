"""From torch to the device: every graph of the exported bundle computes what the torch model computes."""

from __future__ import annotations

import platform
import re
import shutil

import numpy as np
import onnx
import pytest
import torch

from edge.bundle import load
from edge.engines import EngineSettings, load_engine, write_input
from export.reference import rover_export
from export.reference.rover_export import load_model, plan_actions
from export.reference.rover_model import Rollout, RoverModel

PARTS = ("encoder", "predictor", "rollout")
FLOAT = EngineSettings(precision="fp32")


def feed(bundle, part):
    rng = np.random.default_rng(7)
    return {
        t.name: rng.integers(0, 256, t.shape, dtype=np.uint8)
        if t.dtype == "uint8"
        else (rng.uniform(-1, 1, t.shape) if "actions" in t.name else rng.normal(size=t.shape)).astype(np.float32)
        for t in bundle.graph(part).inputs
    }


def run(bundle, part, settings, inputs):
    engine = load_engine(bundle, part, settings)
    for name, values in inputs.items():
        write_input(engine, name, values)
    engine.enqueue()
    engine.wait()
    return engine.output(bundle.graph(part).outputs[0].name).copy()


@torch.no_grad()
def in_torch(model, part, inputs):
    given = {name: torch.from_numpy(values) for name, values in inputs.items()}
    if part == "encoder":
        return model.encoder(given["picture"]).unsqueeze(1).numpy()
    context = given["context"][:, :, 0]
    if part == "predictor":
        return model.predictor(context, given["actions"])[:, -1:].numpy()
    return Rollout(model.predictor)(context, given["past_actions"], given["actions"], given["goal"][:, 0])[0].numpy()


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize("part", PARTS)
def test_fp32_graphs_equal_torch(exported, part):
    inputs = feed(exported.bundle, part)
    found = run(exported.bundle, part, FLOAT, inputs)
    assert relative(found, in_torch(exported.model, part, inputs)) < 1e-5


@pytest.mark.parametrize("part", PARTS)
def test_int8_graphs_are_near_and_all_their_gemms_are_integer(exported, part):
    inputs = feed(exported.bundle, part)
    found = run(exported.bundle, part, EngineSettings(), inputs)
    error = relative(found, in_torch(exported.model, part, inputs))
    assert 1e-6 < error < 0.1  # not zero either: then nothing was quantized
    info = load_engine(exported.bundle, part).info
    assert info.quantized_linears == exported.bundle.manifest.int8["linears_quantized"][part] > 0
    if platform.machine() == "x86_64":
        assert (info.precision, info.integer_gemms) == ("int8", info.quantized_linears)


def test_the_first_step_of_the_rollout_is_the_predictor(exported):
    inputs = feed(exported.bundle, "rollout")
    distance = run(exported.bundle, "rollout", FLOAT, inputs)
    for candidate in (0, 5):
        actions = np.concatenate([inputs["past_actions"], inputs["actions"][None, candidate, :1]], axis=1)
        predicted = run(exported.bundle, "predictor", FLOAT, {"context": inputs["context"], "actions": actions})
        assert distance[candidate, 0] == pytest.approx(np.square(predicted - inputs["goal"]).mean(), rel=1e-4)


def test_candidates_do_not_see_each_other(exported):
    inputs = feed(exported.bundle, "rollout")
    before = run(exported.bundle, "rollout", FLOAT, inputs)
    inputs["actions"][3] *= -1.0
    after = run(exported.bundle, "rollout", FLOAT, inputs)
    assert not np.allclose(after[3], before[3], rtol=1e-3)
    others = np.arange(len(before)) != 3
    np.testing.assert_allclose(after[others], before[others], rtol=1e-5)


def test_an_action_changes_its_own_step_and_what_follows(exported):
    inputs = feed(exported.bundle, "rollout")
    before = run(exported.bundle, "rollout", FLOAT, inputs)
    inputs["actions"][:, 2] *= -1.0
    after = run(exported.bundle, "rollout", FLOAT, inputs)
    np.testing.assert_allclose(after[:, :2], before[:, :2], rtol=1e-6)
    assert (np.abs(after[:, 2:] - before[:, 2:]) > 1e-5 * before[:, 2:]).all()


def test_the_manifest_reports_what_quantization_cost(exported):
    report = exported.bundle.manifest.int8
    assert 0.9 < report["encoder"]["worst_cosine"] <= report["encoder"]["cosine"] < 1.0
    assert 0.0 < report["encoder"]["relative_error"] <= report["encoder"]["worst_relative_error"] < 0.3
    assert -1.0 <= report["planner"]["worst_rank_correlation"] <= report["planner"]["rank_correlation"] <= 1.0
    assert exported.bundle.manifest.goal.reached_cost > 0
    assert "within 5 cm and 10 degrees" in exported.bundle.manifest.goal.reached_cost_from


def test_nothing_of_this_machine_is_in_the_bundle(exported):
    here = str(rover_export.__file__).rsplit("/export/", 1)[0].encode()
    for path in exported.bundle.folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert here not in data and b"site-packages" not in data and b"stack_trace" not in data, path


def test_weights_are_stored_as_integers_and_graphs_are_clean(exported):
    for part in PARTS:
        model = onnx.load(exported.bundle.folder / f"{part}.onnx")
        assert [(o.domain, o.version) for o in model.opset_import] == [("", 19)]
        floats = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) == 2]
        kept = {tuple(t.dims) for t in floats if t.dims[0] >= 16}  # the first layer of the actions is smaller
        assert kept == (set() if part == "encoder" else {(128, 128)}), part  # the layer "outward"
        assert not {node.op_type for node in model.graph.node} & {"Gemm", "BatchNormalization", "Loop", "Identity"}


def test_plans_to_calibrate_on_reach_the_extremes():
    plans = plan_actions(np.random.default_rng(0), 64, 15)
    assert plans.dtype == np.float32 and plans.shape == (64, 15, 2)
    assert np.abs(plans).max() == 1.0 and (np.abs(plans) == 1.0).all(axis=(1, 2)).sum() > 5


@pytest.mark.parametrize(
    ("name", "said"), [("none.pt", "cannot be read"), ("other.pt", "do not fit"), ("text.pt", "do not fit")]
)
def test_the_command_tells_bad_weights_in_one_line(tmp_path, capsys, name, said):
    torch.save({"model": {"encoder.dense.weight": torch.zeros(2)}}, tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("weights")
    assert rover_export.main(["--weights", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and said in line and name in line and "rover_train" in line
    assert not (tmp_path / "out").exists()


def test_below_the_gate_nothing_is_written_and_the_layers_are_named(exported, tmp_path, capsys, monkeypatch):
    """Random weights are far below it."""
    monkeypatch.setattr(rover_export, "load_model", lambda path: exported.model)
    monkeypatch.setattr(rover_export, "measure_rover", lambda *given, **asked: exported.measured)  # real, and slow
    shutil.copytree(exported.bundle.folder, tmp_path / "rover")
    asked = ["--out", str(tmp_path / "rover"), "--candidates", "8", "--horizon", "4"]
    assert rover_export.main(asked) == 1
    said = capsys.readouterr().err
    assert "below the gate: predictor relative error is" in said and "layers of the predictor that cost most" in said
    assert "nothing was written" in said and "--keep-float" in said
    assert load(str(tmp_path / "rover")).sha256 == exported.bundle.sha256


def test_weights_are_loaded_from_a_checkpoint_and_from_plain_weights(tmp_path):
    state = RoverModel().state_dict()
    torch.save(state, tmp_path / "plain.pt")
    torch.save({"model": state, "step": 3}, tmp_path / "checkpoint.pt")
    for name in ("plain.pt", "checkpoint.pt"):
        loaded = load_model(tmp_path / name).state_dict()
        assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_the_bundle_loads_again_by_its_folder(exported):
    assert re.fullmatch("[0-9a-f]{64}", load(exported.bundle.folder).sha256)
