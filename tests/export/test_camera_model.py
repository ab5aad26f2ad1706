"""The camera model's definition, its footage and its export, with random weights."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="models are trained on the workstation")

from edge.bundle import load as load_bundle  # noqa: E402
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine  # noqa: E402
from edge.errors import UserError  # noqa: E402
from export.feeds import run  # noqa: E402
from export.frames import Footage as ExportFootage  # noqa: E402
from export.quantize import sensitivity  # noqa: E402
from export.reference import camera_data, camera_export  # noqa: E402
from export.reference.camera_data import SOURCES, WINDOW, Clip, Footage, Windows  # noqa: E402
from export.reference.camera_export import export_graphs, load_model  # noqa: E402
from export.reference.camera_model import SPEC, CameraModel  # noqa: E402
from export.reference.camera_train import losses  # noqa: E402
from tests.export.sources.pair import write_pictures  # noqa: E402

SPEC_SHAPE = (SPEC.height, SPEC.width, 3)


@pytest.fixture(scope="module")
def model() -> CameraModel:
    torch.manual_seed(0)
    return CameraModel().eval()


def footage() -> Footage:
    rng = np.random.default_rng(0)
    clips = tuple(Clip(f"c{i}", rng.integers(0, 255, (20, 120, 160, 3)).astype(np.uint8), fps) for i, fps in enumerate((10.0, 0.0)))
    return Footage(clips, np.array([0.5, 0.5]))


def test_is_small(model: CameraModel) -> None:
    assert sum(p.numel() for p in model.parameters()) <= 1_500_000


def test_a_latent_sees_its_own_patch_only(model: CameraModel) -> None:
    picture = torch.randint(0, 255, (1, SPEC.height, SPEC.width, 3), dtype=torch.uint8)
    changed = picture.clone()
    changed[0, 16:32, 32:48] = 255 - changed[0, 16:32, 32:48]
    with torch.no_grad():
        moved = (model.encoder(picture) - model.encoder(changed)).abs().amax(dim=-1)[0]
    assert torch.nonzero(moved > 1e-6).flatten().tolist() == [1 * SPEC.grid[1] + 2]


def test_a_prediction_sees_its_neighbourhood_only(model: CameraModel) -> None:
    context = torch.randn(1, SPEC.context, SPEC.grid[0] * SPEC.grid[1], SPEC.latent)
    changed = context.clone()
    row, column = 5, 7
    changed[0, 0, row * SPEC.grid[1] + column] += 1.0
    with torch.no_grad():
        moved = (model.predictor(context) - model.predictor(changed)).abs().amax(dim=-1)[0].reshape(SPEC.grid)
    rows, columns = torch.nonzero(moved > 1e-6, as_tuple=True)
    assert {int(r) for r in rows} == {4, 5, 6} and {int(c) for c in columns} == {6, 7, 8}


def test_windows_are_reproducible_and_differ_by_seed() -> None:
    first, again, other = (Windows(footage(), 4, 0.1, seed).batch(3) for seed in (1, 1, 2))
    assert first.shape == (3, 4, WINDOW, WINDOW, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_one_training_step_lowers_the_loss_on_its_batch() -> None:
    torch.manual_seed(0)
    fresh = CameraModel()
    pictures = torch.from_numpy(Windows(footage(), SPEC.context + 1, 0.1, 0).batch(4))
    optimizer = torch.optim.AdamW(fresh.parameters(), lr=1e-3)
    totals = []
    for _ in range(6):
        torch.manual_seed(1)  # the same random directions for every step
        total, _, _ = losses(fresh, pictures, 0.02)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < totals[0]


def test_the_onnx_graphs_compute_what_torch_does(model: CameraModel) -> None:
    engines = {part: OnnxRuntimeEngine(g.SerializeToString(), part) for part, g in export_graphs(model).items()}
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (1, SPEC.height, SPEC.width, 3)).astype(np.uint8)
    context = rng.normal(size=(1, SPEC.context, SPEC.grid[0] * SPEC.grid[1], SPEC.latent)).astype(np.float32)
    with torch.no_grad():
        latent = model.encoder(torch.from_numpy(picture)).numpy()
        predicted = model.predictor(torch.from_numpy(context)).numpy()
    np.testing.assert_allclose(run(engines["encoder"], {"picture": picture}), latent, atol=2e-4)
    np.testing.assert_allclose(run(engines["predictor"], {"context": context}), predicted, atol=2e-4)


def test_the_bundle_names_everything_it_was_trained_on_and_nothing_else() -> None:
    assert {source.folder for source in SOURCES} == {
        "intel_sample_videos", "donkeycar_tub", "octo_bridge", "calib_udacity",
    }  # fmt: skip
    bundle = load_bundle("camera")
    assert [line.removeprefix("trained on: ") for line in bundle.manifest.attribution] == [s.attribution for s in SOURCES]
    assert sum(path.stat().st_size for path in bundle.folder.rglob("*") if path.is_file()) <= 3 << 20


def test_the_export_refuses_a_model_that_int8_ruins_as_the_command_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = write_pictures(tmp_path / "pictures", 24, (SPEC.height, SPEC.width))
    shown = np.stack([cv2.imread(str(pictures / f"{index}.png")) for index in range(24)]).reshape(2, 2, 6, *SPEC_SHAPE)
    monkeypatch.setattr(camera_export, "footage_of", lambda model, data: ExportFootage(shown[0], shown[1], "a test"))
    torch.manual_seed(0)
    plain = CameraModel()
    torch.save(plain.state_dict(), tmp_path / "plain.pt")
    with torch.no_grad():  # one channel thousands of times larger, and the weights behind it so much smaller
        plain.encoder.norm.weight[0] *= 3000.0
        plain.encoder.norm.bias[0] += 3000.0
        plain.encoder.out.weight[:, 0] /= 3000.0
    torch.save(plain.state_dict(), tmp_path / "ruined.pt")
    out = tmp_path / "camera"
    assert camera_export.main(["--weights", str(tmp_path / "plain.pt"), "--out", str(out)]) == 0
    before = load_bundle(str(out))
    assert before.manifest.attribution == load_bundle("camera").manifest.attribution and before.manifest.int8["parity"]
    monkeypatch.setattr(sensitivity, "MOST_IN_FLOAT", 0.0)
    capsys.readouterr()
    assert camera_export.main(["--weights", str(tmp_path / "ruined.pt"), "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert "below the gate: encoder cosine is" in said and "--keep-float encoder.out" in said and "nothing was written" in said
    assert load_bundle(str(out)).sha256 == before.sha256


def test_missing_footage_or_weights_are_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name its parent with --data"):
        camera_data.load(tmp_path)
    with pytest.raises(UserError, match="give the file that camera_train wrote"):
        load_model(tmp_path / "nothing.pt")
    (tmp_path / "other.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="do not fit the camera model"):
        load_model(tmp_path / "other.pt")
