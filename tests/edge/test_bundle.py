"""Every way in which a bundle can be wrong, and what is said about it."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import bundle as bundles
from edge.bundle import BundleError, load

tomli_w = pytest.importorskip("tomli_w", reason="bundles are written on the workstation")


def tensor(name: str, *shape: int, dtype: str = "float32") -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": list(shape)}


GOOD: dict[str, Any] = {
    "format": 1,
    "name": "tiny",
    "version": "1",
    "kind": "robot",
    "made_from": "nothing",
    "made_by": "a test",
    "licence": "Apache-2.0",
    "picture": {"height": 12, "width": 16},
    "latent": {"tokens": 4, "dim": 8, "grid": [2, 2]},
    "time": {"step_s": 0.1, "context": 3},
    "actions": [
        {"name": "left", "unit": "rad/s", "low": -20.0, "high": 20.0},
        {"name": "right", "unit": "rad/s", "low": -20.0, "high": 20.0},
    ],
    "goal": {"cost": "latent_mse", "reached_cost": 0.1, "horizon": 5, "candidates": 7, "elites": 2},
    "graphs": {
        "encoder": {
            "file": "encoder.onnx",
            "inputs": [tensor("picture", 1, 12, 16, 3, dtype="uint8")],
            "outputs": [tensor("latent", 1, 4, 8)],
        },
        "predictor": {
            "file": "predictor.onnx",
            "inputs": [tensor("context", 1, 3, 4, 8), tensor("actions", 1, 3, 2)],
            "outputs": [tensor("predicted", 1, 4, 8)],
        },
        "rollout": {
            "file": "rollout.onnx",
            "inputs": [
                tensor("context", 1, 3, 4, 8),
                tensor("past_actions", 1, 2, 2),
                tensor("actions", 7, 5, 2),
                tensor("goal", 1, 4, 8),
                tensor("step_weights", 5),
                tensor("spread", 1, 5, 2),
                tensor("noise", 3, 5, 2),
                tensor("inertia", 1),
            ],
            "outputs": [
                tensor("distance", 7, 5),
                tensor("refined", 7, 5, 2),
                tensor("next_spread", 1, 5, 2),
                tensor("best_cost", 1),
            ],
        },
    },
    "int8": {"encoder": {"cosine": 0.999}},
}
CONTENTS = {"encoder.onnx": b"e", "predictor.onnx": b"p", "rollout.onnx": b"r", "calibration/a.json": b"{}"}


def write(folder: Path, changes: dict[str, Any] | None = None, contents: dict[str, bytes] | None = None) -> Path:
    """GOOD with some dotted keys set, or removed where the value is None."""
    contents = CONTENTS if contents is None else contents
    table = copy.deepcopy(GOOD)
    table["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    for path, value in (changes or {}).items():
        *parents, last = path.split("/")
        inner = table
        for parent in parents:
            inner = inner[int(parent)] if parent.isdigit() else inner[parent]
        if value is None:
            del inner[last]
        else:
            inner[int(last) if last.isdigit() else last] = value
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "bundle.toml").write_text(tomli_w.dumps(table))
    return folder


def test_a_good_bundle_says_what_it_holds(tmp_path):
    bundle = load(write(tmp_path))
    assert bundle.manifest.latent.grid == (2, 2)
    assert bundle.manifest.picture.colour == "bgr"
    assert [action.high for action in bundle.manifest.actions] == [20.0, 20.0]
    assert bundle.graph("rollout").outputs[0].shape == (7, 5)
    assert bundle.path("calibration/a.json") == tmp_path / "calibration/a.json"
    assert bundle.path("calibration/b.json") is None
    assert bundle.sha256 == hashlib.sha256((tmp_path / "bundle.toml").read_bytes()).hexdigest()


def test_a_camera_bundle_needs_no_actions_no_goal_and_no_rollout(tmp_path):
    changes = {"kind": "camera", "actions": None, "goal": None, "graphs/rollout": None, "graphs/predictor/inputs/1": {}}
    without = {**changes, "graphs/predictor/inputs": [tensor("context", 1, 3, 4, 8)]}
    del without["graphs/predictor/inputs/1"]
    bundle = load(write(tmp_path, without))
    assert bundle.manifest.actions == () and bundle.manifest.goal is None
    with pytest.raises(BundleError, match="'tiny' has no rollout graph"):
        bundle.graph("rollout")


def test_a_camera_may_have_an_encoder_of_video(tmp_path):
    changes = {"kind": "camera", "actions": None, "goal": None, "graphs/rollout": None, "picture/frames": 4, "picture/per_step": 2}
    changes["graphs/predictor/inputs"] = [tensor("context", 1, 3, 4, 8)]
    with pytest.raises(BundleError, match=r"picture uint8 \(1, 12, 16, 3\) .* need picture uint8 \(4, 12, 16, 3\)"):
        load(write(tmp_path, changes))
    video = tensor("picture", 4, 12, 16, 3, dtype="uint8")
    picture = load(write(tmp_path, {**changes, "graphs/encoder/inputs": [video]})).manifest.picture
    assert (picture.frames, picture.per_step) == (4, 2)


REFUSED = [
    ({"format": 2}, r"bundle format 2 and this latentloop reads up to 1: update"),
    ({"format": None}, r"format None and it must be 1"),
    ({"format": "1"}, r"format '1' and it must be 1"),
    ({"licence": None}, r"missing required field `licence`"),
    ({"colour": "rgb"}, r"unknown field `colour`"),
    ({"picture/colour": "rgb"}, r"Invalid enum value 'rgb' - at `\$\.picture\.colour`"),
    ({"picture/height": 0}, r"picture\.height is 0 and must be above 0"),
    ({"picture/frames": 0}, r"picture\.frames is 0 and must be above 0"),
    ({"picture/frames": 2}, r"picture\.frames is 2: only cameras may"),
    ({"picture/per_step": 2}, r"picture\.per_step is 2 and picture\.frames 1"),
    ({"time/step_s": 0.0}, r"time\.step_s is 0\.0 and must be above 0"),
    ({"time/step_s": float("nan")}, r"time\.step_s is nan and must be above 0"),
    ({"latent/grid": [2, 3]}, r"latent\.grid \[2, 3\] does not make latent\.tokens = 4"),
    ({"latent/dim": "8"}, r"Expected `int`, got `str` - at `\$\.latent\.dim`"),
    ({"latent/dim": 9}, r"graphs\.encoder\.outputs are latent float32 \(1, 4, 8\) .* need latent float32 \(1, 4, 9\)"),
    ({"time/context": 2}, r"graphs\.predictor\.inputs are .*\(1, 3, 4, 8\).* need .*\(1, 2, 4, 8\)"),
    ({"goal/candidates": 8}, r"graphs\.rollout\.inputs are .*\(7, 5, 2\).* need .*\(8, 5, 2\)"),
    ({"goal/reached_cost": -1.0}, r"goal\.reached_cost"),
    ({"goal/elites": 0}, r"goal\.elites is 0 and goal\.candidates 7: beside 2 fixed plans there must be elites and"),
    ({"goal/elites": 5}, r"goal\.elites is 5 and goal\.candidates 7"),
    ({"goal/elites": 3}, r"graphs\.rollout\.inputs are .*noise float32 \(3, 5, 2\).* need .*noise float32 \(2, 5, 2\)"),
    ({"goal": None}, r"no \[\[actions\]\] or no \[goal\]"),
    ({"graphs/rollout": None}, r"\[goal\] and \[graphs\.rollout\] go together"),
    ({"actions/0/low": 20.0}, r"action 'left' has low 20\.0 and high 20\.0"),
    ({"actions/1/name": "left"}, r"two actions share a name"),
    ({"graphs/encoder/file": "other.onnx"}, r"graphs\.encoder names 'other\.onnx', which \[files\] does not list"),
    ({"graphs/encoder/fp32": "other.onnx"}, r"graphs\.encoder names 'other\.onnx'"),
    ({"graphs/encoder/inputs/0/dtype": "float32"}, r"picture float32 \(1, 12, 16, 3\) .* need picture uint8"),
    ({"files/rollout.onnx": "0" * 64}, r"rollout\.onnx has sha256 454349e422f0… and bundle\.toml says 000000000000…"),
    ({"files/rollout.onnx": "abc"}, r"'abc', which is no lower-case sha256"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED, ids=[str(changes) for changes, _ in REFUSED])
def test_a_wrong_manifest_is_refused_with_the_reason_in_one_line(tmp_path, changes, said):
    folder = write(tmp_path, changes)
    with pytest.raises(BundleError, match=said) as caught:
        load(folder)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["/etc/passwd", "a/../../b", "./a", "a//b", "..", "c:\\x", "bundle.toml", ""])
def test_file_names_stay_inside_the_bundle(tmp_path, name):
    with pytest.raises(BundleError, match="no plain path inside the bundle"):
        load(write(tmp_path, {"files": {**dict.fromkeys(CONTENTS, "0" * 64), name: "0" * 64}}))


def test_a_changed_and_a_missing_file_are_named(tmp_path):
    folder = write(tmp_path)
    (folder / "predictor.onnx").write_bytes(b"q")
    with pytest.raises(BundleError, match=r"predictor\.onnx has sha256 .* changed or damaged"):
        load(folder)
    (folder / "predictor.onnx").unlink()
    with pytest.raises(BundleError, match=r"predictor\.onnx cannot be read \(No such file"):
        load(folder)


def test_what_is_no_bundle_is_told_apart(tmp_path):
    with pytest.raises(BundleError, match=r"no bundle at .*nowhere': give a bundle folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"is not a bundle: it has no readable bundle\.toml"):
        load(tmp_path)
    (tmp_path / "bundle.toml").write_bytes(b"format = = 1")
    with pytest.raises(BundleError, match="is not valid TOML"):
        load(tmp_path)
    (tmp_path / "bundle.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BundleError, match="is not valid TOML"):
        load(tmp_path)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(raw):
    with pytest.raises(BundleError):
        bundles.parse_manifest(raw, "here")


@given(st.sampled_from(sorted(GOOD)), st.recursive(st.none() | st.integers(-5, 5) | st.text(max_size=3), st.lists))
def test_any_value_of_a_wrong_kind_is_refused_or_understood(key, value):
    table = {**copy.deepcopy(GOOD), "files": {}}
    if value is None:
        del table[key]
    else:
        table[key] = value
    try:
        raw = tomli_w.dumps(table).encode()
    except TypeError:  # None inside a list has no TOML
        return
    try:
        list(bundles.conflicts(bundles.parse_manifest(raw, "here")))
    except BundleError as error:
        assert "\n" not in str(error)
