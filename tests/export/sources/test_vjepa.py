"""The V-JEPA 2 family: positions, graphs against the plain models, a bundle that watches."""

from __future__ import annotations

import cv2
import msgspec
import numpy as np
import pytest
import torch

from edge.bundle import Bundle
from edge.clock import NS_PER_S, FakeClock
from edge.engines.feeds import feeds_for
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.engines.trial import outputs
from edge.messages import Frame
from edge.perception import Perception
from edge.samples import read_samples
from export.feeds import clips, encode, run
from export.footage import in_steps, labelled_for, run_length
from export.frames import read_footage
from export.lint.rules import lint
from export.lint.target import TARGETS
from export.pipeline import export_bundle
from export.reference.random_vjepa import randomised
from export.sources.vjepa2 import open_vjepa2
from export.sources.vjepa2_official import open_official
from export.sources.vjepa_ac import Acting, arm_of, poses
from export.sources.vjepa_ac_graphs import Motion
from export.sources.vjepa_graphs import Tokenizer, normalised
from export.sources.vjepa_keys import one_tokenizer
from export.sources.vjepa_model import ClipSpec, Encoder
from export.sources.vjepa_rope import Rope, channel_order, grid_positions, section
from export.verify_bundle import verify_bundle
from tests.export.sources import vjepa_checkpoints as made
from tests.export.sources.pair import write_pictures

ARM = """
size = 48
context = 2
horizon = 2
candidates = 4
actions = [
  { name = "z", unit = "m", low = -0.1, high = 0.3 },
  { name = "gripper", unit = "closedness", low = -1.0, high = 1.0 },
]
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """One of each family, opened from its own kind of file."""
    folder = tmp_path_factory.mktemp("vjepa")
    hugging_face = made.write_hugging_face(folder / "hf")
    (hugging_face / "latentloop.toml").write_text("frames = 4\ncontext = 2\n")
    official = {
        "two": ({"target_encoder": made.encoder_state(), "predictor": made.masked_state()}, "size = 48\nframes = 1\ncontext = 2"),
        "second": ({"ema_encoder": made.second_state(), "predictor": made.masked_state()}, "size = 48\nframes = 4"),
        "picture": ({"ema_encoder": made.second_state()}, "size = 48\nframes = 1"),
        "ac": ({"encoder": made.encoder_state(), "predictor": made.acting_state()}, ARM),
    }
    opened = {"hf": open_vjepa2(hugging_face)}
    for name, (parts, deployment) in official.items():
        (folder / name).mkdir()
        (folder / name / "latentloop.toml").write_text(deployment)
        opened[name] = open_official(made.write_official(folder / name / "weights.pt", parts))
    return opened


GRAPHS = [
    *[(name, "encoder") for name in ("hf", "two", "second", "picture", "ac")],
    *[(name, "predictor") for name in ("hf", "two", "ac")],
    ("ac", "rollout"),
]


def feed(model):
    rng = np.random.default_rng(7)
    found = {}
    for value in model.graph.input:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if value.name == "picture":
            found[value.name] = rng.integers(0, 256, shape, dtype=np.uint8)
        else:
            found[value.name] = rng.uniform(-1, 1, shape).astype(np.float32)
    return found


def difference(found, original):
    return np.linalg.norm(found - original) / np.linalg.norm(original)


@pytest.mark.parametrize("convention", ["tiled", "paired"])
def test_channels_turn_as_published(convention):
    """The published formula, pair by pair, on the published order of channels."""
    head, size = 20, section(20)
    assert size == 6
    positions = grid_positions(torch.tensor([0, 3]), 2, 2, (1.0, 0.5))
    x = torch.randn(len(positions), head)
    expected = x.clone()
    for token, place in enumerate(positions):
        for axis in range(3):
            for pair in range(size // 2):
                first, second = axis * size + 2 * pair, axis * size + 2 * pair + 1
                used = (pair, pair) if convention == "paired" else (2 * pair % 3, (2 * pair + 1) % 3)
                one, other = (place[axis] * 10000 ** (-k / (size / 2)) for k in used)
                expected[token, first] = x[token, first] * one.cos() - x[token, second] * one.sin()
                expected[token, second] = x[token, second] * other.cos() + x[token, first] * other.sin()
    order = channel_order(head)
    torch.testing.assert_close(Rope(positions, head, convention)(x[:, order]), expected[:, order])


def test_positions_go_frame_by_frame_and_row_by_row():
    found = grid_positions(torch.tensor([0, 5]), 2, 3, (2.0, 0.5))
    assert found.shape == (12, 3)
    assert found[[0, 1, 3, 6]].tolist() == [[0, 0, 0], [0, 0, 0.5], [0, 2, 0], [5, 0, 0]]


@pytest.mark.parametrize("frames", [1, 4])
@torch.no_grad()
def test_raw_pictures_give_the_tokens_of_normalised_ones(frames):
    encoder = Encoder(made.ENCODER, ClipSpec((48, 64), 16, 2, frames), "tiled")
    randomised(encoder)
    clip = torch.randint(0, 256, (frames, 48, 64, 3), dtype=torch.uint8)
    pixels = normalised(clip)
    original = encoder.patch_embed(pixels.expand(-1, -1, 2, -1, -1) if frames == 1 else pixels)
    torch.testing.assert_close(Tokenizer(encoder)(clip), original, rtol=1e-4, atol=1e-4)
    assert original.shape == (1, max(1, frames // 2) * 12, 128)


@pytest.mark.parametrize(("name", "part"), GRAPHS)
def test_fp32_graphs_equal_the_plain_models(sources, name, part):
    graph = sources[name].graphs[part]
    inputs = feed(graph)
    found = run(OnnxRuntimeEngine(graph.SerializeToString(), part), inputs)
    original = sources[name].peer(part, inputs)
    assert found.shape == original.shape and np.abs(original).max() > 0.1
    assert difference(found, original) <= 1e-4


@pytest.mark.parametrize(("name", "part"), GRAPHS)
def test_no_target_refuses_a_graph(sources, name, part):
    graph = sources[name].graphs[part]
    assert [(o.domain, o.version) for o in graph.opset_import] == [("", 19)]
    assert [str(f) for target in TARGETS.values() for f in lint(graph, target) if f.effect != "costly"] == []


def test_weights_that_steps_share_are_stored_once(sources):
    sizes = {part: graph.ByteSize() for part, graph in sources["ac"].graphs.items()}
    assert sizes["rollout"] < 1.2 * sizes["predictor"]


def test_what_the_sources_say(sources):
    pictures = {name: (s.picture.frames, s.picture.per_step) for name, s in sources.items()}
    assert pictures == {"hf": (4, 2), "two": (1, 1), "second": (4, 2), "picture": (1, 1), "ac": (1, 1)}
    assert {name: s.time.context for name, s in sources.items() if "predictor" in s.graphs} == {"hf": 2, "two": 2, "ac": 2}
    assert "predictor" not in sources["second"].graphs
    assert (sources["ac"].plan_shape, [a.name for a in sources["ac"].actions]) == ((4, 2), ["z", "gripper"])
    assert run_length(sources["hf"]) == 4 + 2 * 6


def test_video_and_picture_have_each_their_tokenizer(tmp_path):
    state = made.second_state()
    placed = {single: one_tokenizer(state, single=single, path=tmp_path) for single in (False, True)}
    assert placed[True]["patch_embed.proj.weight"].shape[2] == 1 and placed[False]["patch_embed.proj.weight"].shape[2] == 2
    for single, mode, used in ((True, "img", "patch_embed_img"), (False, "video", "patch_embed")):
        bias = state[f"{used}.proj.bias"] + state[f"{mode}_mod_embed"].flatten()
        assert torch.equal(placed[single]["patch_embed.proj.bias"], bias)
        assert torch.equal(placed[single]["norm.weight"], state["norms_block.3.weight"])


def test_the_first_step_of_the_rollout_is_the_predictor(sources):
    engines = {part: OnnxRuntimeEngine(sources["ac"].graphs[part].SerializeToString(), part) for part in ("predictor", "rollout")}
    inputs = feed(sources["ac"].graphs["rollout"])
    distance = run(engines["rollout"], inputs)
    actions = np.concatenate([inputs["past_actions"], inputs["actions"][None, 2, :1]], axis=1)
    predicted = run(engines["predictor"], {"context": inputs["context"], "actions": actions})
    assert distance[2, 0] == pytest.approx(np.square(predicted - inputs["goal"]).mean(), rel=1e-4)


@pytest.mark.parametrize("moment", [0, 1])
def test_every_action_matters_to_the_action_predictor(sources, moment):
    engine = OnnxRuntimeEngine(sources["ac"].graphs["predictor"].SerializeToString(), "predictor")
    inputs = feed(sources["ac"].graphs["predictor"])
    before = run(engine, inputs)
    inputs["actions"][0, moment] *= -1.0
    assert difference(run(engine, inputs), before) > 1e-4


def test_poses_follow_the_actions_and_the_gripper_stops_at_its_ends():
    deployment = Acting(pose=(0.5, 0.0, 0.3, 3.0, 0.0, 0.0, 0.9))
    motion = Motion(arm_of(deployment))
    moved = motion(torch.tensor([[[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.5], [0.0, 1.0, 0.0, -1.0]]]))
    assert moved[0, 1].tolist() == pytest.approx([0.0, 0.0, -0.075, 0.0, 0.0, 0.0, 0.375])
    told = poses(motion, moved, seen=2)[0]
    assert told[1].tolist() == pytest.approx(list(deployment.pose))
    assert told[0].tolist() == pytest.approx([0.425, 0.0, 0.3, 3.0, 0.0, 0.0, 0.9])
    assert told[2].tolist() == pytest.approx([0.5, 0.0, 0.225, 3.0, 0.0, 0.0, 1.0])


def test_skip_predictor_exports_the_encoder_alone(tmp_path):
    folder = made.write_hugging_face(tmp_path / "hf")
    (folder / "latentloop.toml").write_text("frames = 1\nskip_predictor = true\n")
    assert list(open_vjepa2(folder).graphs) == ["encoder"]


def test_clips_slide_by_a_step():
    pictures = np.arange(2 * 8, dtype=np.uint8).reshape(2, 8, 1, 1, 1)
    found = clips(pictures, 4, 2)
    assert found.shape == (2, 3, 4, 1, 1, 1)
    assert found[1, :, :, 0, 0, 0].tolist() == [[8, 9, 10, 11], [10, 11, 12, 13], [12, 13, 14, 15]]


@pytest.fixture(scope="module")
def video_bundle(sources, tmp_path_factory):
    """The one of Hugging Face, quantized, and the footage it was verified on."""
    folder, source = tmp_path_factory.mktemp("video"), sources["hf"]
    pictures = write_pictures(folder / "pictures", 60, (48, 48))
    footage = read_footage(str(pictures), source.picture, source.time.step_s / 2, run_length(source), 2)
    return export_bundle(source, in_steps(footage, source), folder / "bundle"), footage.verification[0]


def test_a_bundle_of_video_is_written_and_watches(video_bundle):
    outcome, pixels = video_bundle
    assert outcome.failures == [] and outcome.bundle is not None
    assert outcome.report["integer_gemms"] == outcome.report["linears_quantized"]
    perception = Perception(outcome.bundle, FakeClock())
    beliefs = [perception.see(Frame(p, round(i * NS_PER_S / 4), i)) for i, p in enumerate(pixels)]
    steps = [i for i, belief in enumerate(beliefs) if belief is not None]
    assert steps == list(range(0, len(pixels), 2))
    newest = beliefs[steps[-1]]
    assert newest is not None and newest.predicted is not None
    encoder = OnnxRuntimeEngine((outcome.bundle.folder / "encoder.onnx").read_bytes(), "encoder")
    clip = pixels[steps[-1] - 3 : steps[-1] + 1]
    assert np.array_equal(run(encoder, {"picture": clip})[0], newest.latent)
    assert difference(run(encoder, {"picture": clip[::-1]})[0], newest.latent) > 1e-3
    assert perception.shifted(pixels[steps[-1]]).shape == (9, 128)


def test_a_bundle_of_video_has_inputs_for_trials(video_bundle, tmp_path):
    bundle = video_bundle[0].bundle
    encoder = OnnxRuntimeEngine((bundle.folder / "encoder.onnx").read_bytes(), "encoder")
    samples = read_samples(bundle)
    assert samples.pictures.shape == (2, 2, 4, 48, 48, 3)
    bare = Bundle(bundle.folder, msgspec.structs.replace(bundle.manifest, files={}), bundle.sha256)
    for known, made_of in ((bundle, "footage"), (bare, "noise")):
        for part in ("encoder", "predictor"):
            feeds = feeds_for(known, part, encoder)
            engine = OnnxRuntimeEngine((bundle.folder / f"{part}.onnx").read_bytes(), part)
            assert feeds.made_of == made_of
            assert all(np.isfinite(values).all() for feed in feeds for values in outputs(engine, feed).values())
    clips = [feed["picture"] for feed in feeds_for(bare, "encoder", encoder)]
    assert np.array_equal(clips[1][:2], clips[0][2:])  # a clip begins with what the one before it ended with


def test_labelled_clips_are_seen_as_the_runtime_sees_them(video_bundle, sources, tmp_path):
    """Anomalies planted in a recording: every step's clip is the frames up to it, and so is its label."""
    bundle, source = video_bundle[0].bundle, sources["hf"]
    frames = write_pictures(tmp_path / "clip", 48, (48, 48))
    for index in range(20, 32):
        cv2.imwrite(str(frames / f"{index}.png"), np.full((48, 48, 3), (255, 255, 0), np.uint8))
    (tmp_path / "labels.toml").write_text('[[clips]]\nframes = "clip"\nanomalous = [[20, 32]]\n')
    normal = str(write_pictures(tmp_path / "normal", 60, (48, 48)))

    footage = in_steps(read_footage(normal, source.picture, source.time.step_s / 2, run_length(source), 2), source)
    labelled = labelled_for(source, tmp_path / "labels.toml", footage.calibration)
    assert labelled is not None and labelled.pictures[0].shape == (24, 4, 48, 48, 3)
    assert labelled.anomalous[0].tolist() == [20 <= 2 * step < 32 for step in range(24)]
    perception = Perception(bundle, FakeClock())
    pixels = [cv2.imread(str(frames / f"{index}.png")) for index in range(48)]
    beliefs = [perception.see(Frame(p, round(i * NS_PER_S / 4), i)) for i, p in enumerate(pixels)]
    encoder = OnnxRuntimeEngine((bundle.folder / "encoder.onnx").read_bytes(), "encoder")
    seen = [belief.latent for belief in beliefs if belief is not None]
    np.testing.assert_array_equal(encode(encoder, labelled.pictures[0][None])[0], np.stack(seen))

    anomaly = verify_bundle(bundle, normal, labels=tmp_path / "labels.toml").figures["anomaly"]
    assert min(anomaly["scores"]["unfamiliar (distance to normal)"].values()) > 0.9
    assert anomaly["scores"].keys() == {"unfamiliar (distance to normal)", "unexpected (prediction error)"}


def test_graphs_compile(sources, video_bundle):
    pytest.importorskip("tensorrt_rtx", reason="the compile check needs tensorrt-rtx: pip install 'latentloop[compile-check]'")
    from tests.export.test_compile import compile_error

    graphs = {part: graph.SerializeToString() for part, graph in sources["ac"].graphs.items()}
    graphs |= {path.name: path.read_bytes() for path in video_bundle[0].bundle.folder.glob("*.onnx")}
    assert len(graphs) == 5
    assert {name: compile_error(graph) for name, graph in graphs.items()} == dict.fromkeys(graphs, "")
