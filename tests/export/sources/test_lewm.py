"""LeWorldModel at full size: its names, its graphs against the plain model, and what is said about broken checkpoints."""

from __future__ import annotations

import json
import platform
import shutil

import numpy as np
import onnx
import pytest
import torch

from edge.bundle import load
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from export.feeds import run
from export.footage import run_length
from export.frames import read_footage
from export.pipeline import export_bundle
from export.sources import lewm
from export.sources.lewm import NEWER_NAMES, open_lewm, published_names, read_config
from export.sources.lewm_graphs import ActionScale
from export.sources.lewm_model import LeWM, LeWMSpec
from export.sources.source import SourceError
from export.sources.weights import fit, load_state
from tests.export.sources.conftest import randomised
from tests.export.sources.pair import write_pictures

PARTS = ("encoder", "predictor", "rollout")
WEIGHTS = "weights.pt"


@pytest.fixture(scope="module")
def source(checkpoint):
    (checkpoint / "latentloop.toml").write_text(
        'name = "pusht"\nstep_s = 0.25\nhorizon = 3\ncandidates = 4\n'
        'actions = [{ name = "x", unit = "m", low = -1.0, high = 3.0, mean = 0.5, std = 0.4 },'
        ' { name = "y", unit = "m", low = -2.0, high = 2.0 }]\n'
    )
    opened = open_lewm(checkpoint)
    (checkpoint / "latentloop.toml").unlink()
    return opened


def feed(model: onnx.ModelProto):
    rng = np.random.default_rng(7)
    found = {}
    for value in model.graph.input:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if value.name == "picture":
            found[value.name] = rng.integers(0, 256, shape, dtype=np.uint8)
        else:
            found[value.name] = rng.uniform(-1, 1, shape).astype(np.float32)
    return found


def test_the_model_has_the_published_names_and_size(full_size):
    state = full_size.state_dict()
    assert len(state) == 303 and sum(p.numel() for p in full_size.parameters()) == 18_034_478
    shapes = {
        "encoder.embeddings.cls_token": (1, 1, 192),
        "encoder.embeddings.position_embeddings": (1, 257, 192),
        "encoder.embeddings.patch_embeddings.projection.weight": (192, 3, 14, 14),
        "encoder.encoder.layer.0.attention.attention.query.weight": (192, 192),
        "encoder.encoder.layer.11.output.dense.weight": (192, 768),
        "predictor.pos_embedding": (1, 3, 192),
        "predictor.transformer.layers.0.attn.to_qkv.weight": (3072, 192),
        "predictor.transformer.layers.5.adaLN_modulation.1.weight": (1152, 192),
        "action_encoder.patch_embed.weight": (10, 10, 1),
        "action_encoder.embed.2.weight": (192, 768),
        "projector.net.1.running_mean": (2048,),
        "pred_proj.net.3.weight": (192, 2048),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes


@pytest.mark.parametrize("part", PARTS)
def test_fp32_graphs_equal_the_plain_model(source, part):
    inputs = feed(source.graphs[part])
    found = run(OnnxRuntimeEngine(source.graphs[part].SerializeToString(), part), inputs)
    original = source.peer(part, inputs)
    assert found.shape == original.shape
    assert np.linalg.norm(found - original) / np.linalg.norm(original) <= 1e-4
    assert np.abs(original).max() > 0.1


def test_the_peer_would_notice_a_wrong_graph(source):
    inputs = feed(source.graphs["predictor"])
    inputs["actions"][0, -1] *= -1.0  # the newest action only
    changed = source.peer("predictor", inputs)
    inputs["actions"][0, -1] *= -1.0
    original = source.peer("predictor", inputs)
    assert np.linalg.norm(changed - original) / np.linalg.norm(original) > 1e-2


def test_the_first_step_of_the_rollout_is_the_predictor(source):
    engines = {part: OnnxRuntimeEngine(source.graphs[part].SerializeToString(), part) for part in PARTS[1:]}
    inputs = feed(source.graphs["rollout"])
    distance = run(engines["rollout"], inputs)
    actions = np.concatenate([inputs["past_actions"], inputs["actions"][None, 2, :1]], axis=1)
    predicted = run(engines["predictor"], {"context": inputs["context"], "actions": actions})
    assert distance[2, 0] == pytest.approx(np.square(predicted - inputs["goal"]).mean(), rel=1e-4)


def test_graphs_are_plain_onnx_of_fixed_shapes(source):
    for part in PARTS:
        graph = source.graphs[part]
        assert [(o.domain, o.version) for o in graph.opset_import] == [("", 19)]
        assert not {n.op_type for n in graph.graph.node} & {"Gemm", "BatchNormalization", "If", "Loop", "Identity"}
        for value in (*graph.graph.input, *graph.graph.output):
            assert all(d.dim_value > 0 for d in value.type.tensor_type.shape.dim)


def test_the_manifest_says_what_the_deployment_file_says(source):
    assert (source.name, source.time.step_s, source.plan_shape) == ("pusht", 0.25, (4, 3))
    assert [(a.name, a.low, a.high) for a in source.actions] == [("x", -1.0, 3.0), ("y", -2.0, 2.0)]


def test_actions_reach_the_model_as_it_was_trained():
    scale = ActionScale(offsets=(1.0, 0.0), factors=(2.0, 3.0), repeat=2)
    assert scale.trained(torch.tensor([[0.5, -1.0]])).tolist() == [[2.0, -3.0, 2.0, -3.0]]
    axes = (lewm.Axis("x", "m", -1.0, 3.0, mean=0.5, std=0.4), lewm.Axis("y", "m", -2.0, 2.0))
    _, made = lewm._axes(lewm.Deployment(actions=axes, frameskip=5), 10)
    low, high = (made.trained(torch.full((2,), a))[:2].tolist() for a in (-1.0, 1.0))
    assert low == pytest.approx([(-1.0 - 0.5) / 0.4, -2.0]) and high == pytest.approx([(3.0 - 0.5) / 0.4, 2.0])


def test_names_of_newer_transformers_are_understood(full_size):
    newer = {}
    for key, value in full_size.state_dict().items():
        if key.startswith("encoder.encoder.layer."):
            for new, old in NEWER_NAMES:
                key = key.replace(old, new)
        newer[key] = value
    assert "encoder.layers.3.attention.q_proj.weight" in newer and "encoder.layers.3.mlp.fc2.bias" in newer
    back = published_names(newer)
    assert list(back) == list(full_size.state_dict())


def test_safetensors_hold_the_same(tmp_path):
    torch_file = pytest.importorskip("safetensors.torch")
    state = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}
    torch_file.save_file(state, tmp_path / "weights.safetensors")
    loaded = load_state(tmp_path / "weights.safetensors")
    assert all(torch.equal(loaded[key], value) for key, value in state.items()) and len(loaded) == 2
    whole = (tmp_path / "weights.safetensors").read_bytes()
    (tmp_path / "weights.safetensors").write_bytes(whole[:-5])
    with pytest.raises(SourceError, match="no whole file"):
        load_state(tmp_path / "weights.safetensors")


SMALL = LeWMSpec(image=28, layers=1, depth=1, predictor_mlp=32, projector_hidden=16, predictor_projector_hidden=16)
KEY = "predictor.transformer.layers.0.mlp.net.1.weight"


def lacking(state):
    del state[KEY]


def unknown(state):
    state["encoder.mask_token"] = torch.zeros(1)


def misshapen(state):
    state[KEY] = torch.zeros(3, 192)


def broken(state):
    state[KEY][1, 2] = float("nan")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lacking, f"lacks {KEY!r}"),
        (unknown, "'encoder.mask_token', which this model does not know"),
        (misshapen, r"of shape \(3, 192\) and config.json makes it \(32, 192\)"),
        (broken, "not finite"),
    ],
)
def test_wrong_keys_are_named(tmp_path, spoil, said):
    model = LeWM(SMALL)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    fit(model, state, tmp_path / WEIGHTS, "look")
    spoil(state)
    with pytest.raises(SourceError, match=said) as caught:
        fit(model, state, tmp_path / WEIGHTS, "look")
    assert WEIGHTS in str(caught.value) and "\n" not in str(caught.value)


def truncate(folder):
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])


def pickle_a_module(folder):
    torch.save(torch.nn.Linear(2, 2), folder / WEIGHTS)


def hold_numbers(folder):
    torch.save({"a": 3}, folder / WEIGHTS)


def remove_weights(folder):
    (folder / WEIGHTS).unlink()


def remove_config(folder):
    (folder / "config.json").unlink()


def break_config(folder):
    (folder / "config.json").write_text('{"encoder": {"size": 3}}')


def change_config(**changes):
    def spoil(folder):
        config = json.loads((folder / "config.json").read_text())
        for key, value in changes.items():
            section, name = key.split("__")
            config[section][name] = value
        (folder / "config.json").write_text(json.dumps(config))

    return spoil


def describe(text):
    return lambda folder: (folder / "latentloop.toml").write_text(text)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (truncate, "weights.pt is no whole file"),
        (pickle_a_module, "save its state_dict"),
        (hold_numbers, "no state dictionary"),
        (remove_weights, "neither weights.safetensors nor weights.pt"),
        (remove_config, "config.json cannot be read"),
        (break_config, r"config.json is not the configuration of a LeWM: .*encoder.size"),
        (change_config(encoder__size="giant"), "encoder.size 'giant'"),
        (change_config(encoder__patch_size=15), "does not divide it"),
        (change_config(predictor__hidden_dim=256), "predictor.hidden_dim 256"),
        (change_config(predictor__mlp_dim=1024), "net.1.weight' of shape"),
        (change_config(predictor__depth=7), "lacks 'predictor.transformer.layers.6"),
        (describe("step = 1"), "latentloop.toml is not valid: .*`step`"),
        (describe("step_s = 0"), "step_s 0.0 and it must be above 0"),
        (describe("frameskip = 4"), "frameskip is 4"),
        (describe('actions = [{name = "x", unit = "m", low = 1, high = 1}]'), "action 'x' has low 1.0 and high 1.0"),
        (describe('actions = [{name = "x", unit = "m", low = 0, high = 1, std = 0}]'), "std must be above 0"),
        (describe('actions = [{name = "x", unit = "m", low = 0, high = 1}]'), "describes 1 actions and the model has 2"),
    ],
)
def test_a_broken_checkpoint_is_named_in_one_sentence(checkpoint, tmp_path, spoil, said):
    folder = tmp_path / "copy"
    folder.mkdir()
    shutil.copy(checkpoint / "config.json", folder)
    if spoil in (truncate, pickle_a_module, hold_numbers):
        shutil.copy(checkpoint / WEIGHTS, folder)
    else:
        (folder / WEIGHTS).symlink_to(checkpoint / WEIGHTS)
    spoil(folder)
    with pytest.raises(SourceError, match=said) as caught:
        open_lewm(folder)
    assert "\n" not in str(caught.value)


def test_a_small_one_goes_all_the_way_to_a_bundle(tmp_path):
    spec = LeWMSpec(image=28, layers=1, depth=1, predictor_mlp=64, projector_hidden=64, predictor_projector_hidden=64)
    deployment = lewm.Deployment(candidates=32, horizon=2, step_s=0.1)
    small = lewm.lewm_source(randomised(spec), deployment, "random weights")
    frames = write_pictures(tmp_path / "frames", 40, (40, 40))
    footage = read_footage(str(frames), small.picture, 0.1, run_length(small), 4)
    # Random weights have no structure that survives rounding: their last layers stay in float to stay within the gate.
    spared = ("projector.0", "projector.2", "embed.2", "modulation.1")
    outcome = export_bundle(small, footage, tmp_path / "bundle", keep_float=spared)
    assert outcome.failures == [] and outcome.bundle is not None
    manifest = load(tmp_path / "bundle").manifest
    assert manifest.kind == "robot" and [a.name for a in manifest.actions] == ["action0", "action1"]
    assert "were not described" in manifest.made_from and manifest.goal.reached_cost > 0
    assert max(manifest.int8["parity"].values()) < 1e-4
    assert manifest.int8["linears_quantized"] == {"encoder": 4, "predictor": 4, "rollout": 8}
    # Encoder: two norms of the layer and the last. Predictor: those before attention and MLP, and the last; not the modulated.
    assert manifest.int8["norms_folded"] == {"encoder": 3, "predictor": 3, "rollout": 6}
    if platform.machine() == "x86_64":
        assert manifest.int8["integer_gemms"] == manifest.int8["linears_quantized"]


def test_the_published_configuration_is_read(checkpoint):
    assert read_config(checkpoint / "config.json") == LeWMSpec()
