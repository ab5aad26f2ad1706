"""From the footage of an export into its bundle, and from there into trials and the acceptance."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from edge.acceptance.page import page
from edge.acceptance.running import accept, latents_check
from edge.bundle import Bundle, Part, load
from edge.engines.engine import EngineError
from edge.engines.feeds import feeds_for
from edge.engines.peers import exact_engine, usual_engine
from edge.engines.tensorrt.library import Library, NoTensorRt
from edge.engines.trial import judge, outputs
from edge.samples import FILE, RUNS, Samples, read_samples
from export.footage import in_steps, run_length
from export.frames import Footage, read_footage
from export.pipeline import export_bundle
from export.sampling import samples_of
from export.sources.onnx_pair import open_onnx_pair
from tests.export.conftest import Exported
from tests.export.sources.pair import write_pair, write_pictures

PARTS: tuple[Part, ...] = ("encoder", "predictor", "rollout")


def without(bundle: Bundle, out: Path) -> Bundle:
    """The same without its samples."""
    out.mkdir()
    for name in bundle.manifest.files:
        if name != FILE:
            (out / name).parent.mkdir(exist_ok=True)
            (out / name).write_bytes((bundle.folder / name).read_bytes())
    lines = (bundle.folder / "bundle.toml").read_text().splitlines(keepends=True)
    (out / "bundle.toml").write_text("".join(line for line in lines if FILE not in line))
    return load(out)


def with_latents(bundle: Bundle, latents: np.ndarray, out: Path) -> Bundle:
    """A copy with other latents in its samples."""
    samples = read_samples(bundle)
    assert samples is not None
    data = dataclasses.replace(samples, latents=latents.astype(np.float32)).to_bytes()
    shutil.copytree(bundle.folder, out)
    manifest = out / "bundle.toml"
    manifest.write_text(manifest.read_text().replace(bundle.manifest.files[FILE], hashlib.sha256(data).hexdigest()))
    (out / FILE).write_bytes(data)
    return load(out)


@pytest.fixture(scope="module")
def footage_bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Footage]:
    folder = tmp_path_factory.mktemp("pair")
    source = open_onnx_pair(write_pair(folder, robot=True))
    pictures = write_pictures(folder / "pictures", 80, (32, 48))
    footage = in_steps(read_footage(str(pictures), source.picture, source.time.step_s, run_length(source), 8), source)
    outcome = export_bundle(source, footage, folder / "bundle")
    assert outcome.bundle is not None
    return outcome.bundle, footage


def test_they_are_of_the_verification_footage_with_the_latents_before_quantization(
    footage_bundle: tuple[Bundle, Footage], exported: Exported
) -> None:
    bundle, footage = footage_bundle
    samples = read_samples(bundle)
    assert samples is not None and len(samples.pictures) == min(RUNS, len(footage.verification))
    context = bundle.manifest.time.context
    starts = {run[:context].tobytes() for run in footage.verification}
    assert all(run.tobytes() in starts for run in samples.pictures)
    assert len({run.tobytes() for run in samples.pictures}) == len(samples.pictures)
    rover = read_samples(exported.bundle)
    assert rover is not None
    exact = exact_engine(exported.bundle, "encoder")  # of the FP32 graph, which this bundle carries
    for step, latent in zip(*rover.steps(), strict=True):
        assert np.array_equal(outputs(exact, {"picture": step})["latent"][0], latent)


def test_they_are_left_out_on_request(tmp_path: Path) -> None:
    source = open_onnx_pair(write_pair(tmp_path))
    pictures = write_pictures(tmp_path / "pictures", 80, (32, 48))
    footage = read_footage(str(pictures), source.picture, source.time.step_s, run_length(source), 2)
    outcome = export_bundle(source, footage, tmp_path / "bundle", with_samples=False)
    assert outcome.bundle is not None and FILE not in outcome.bundle.manifest.files
    assert not (tmp_path / "bundle" / FILE).exists()


def test_clips_of_video_are_whole() -> None:
    rng = np.random.default_rng(0)
    manifest = load("camera").manifest
    clips = rng.integers(0, 256, (3, manifest.time.context + 2, 2, 8, 8, 3), dtype=np.uint8)
    found = samples_of(manifest, clips, np.zeros((*clips.shape[:2], 5, 7), np.float32))
    assert isinstance(found, Samples) and found.pictures.shape == (3, manifest.time.context, 2, 8, 8, 3)
    assert np.array_equal(found.pictures, clips[:, : manifest.time.context])


@pytest.mark.parametrize("part", PARTS)
def test_trials_use_them_and_say_so(exported: Exported, tmp_path: Path, part: Part) -> None:
    bundle = exported.bundle
    encoder = usual_engine(bundle, "encoder")
    samples = read_samples(bundle)
    assert samples is not None
    feeds, noise = feeds_for(bundle, part, encoder), feeds_for(without(bundle, tmp_path / "bare"), part, encoder)
    assert (feeds.made_of, noise.made_of) == ("footage", "noise")
    steps, _ = samples.steps()
    if part == "encoder":
        assert all(np.array_equal(feed["picture"], step) for feed, step in zip(feeds, steps, strict=True))
    else:
        context = samples.pictures.shape[1]
        last = outputs(encoder, {"picture": steps[context - 1]})["latent"][0]
        assert len(feeds) == len(samples.pictures) and np.array_equal(feeds.inputs[0]["context"][0, -1], last)
    verdict = judge(exact_engine(bundle, part), usual_engine(bundle, part), usual_engine(bundle, part), feeds, seconds=0.0)
    assert verdict.accepted and (verdict.made_of, verdict.samples) == ("footage", len(feeds))


def none() -> Library:
    raise NoTensorRt("there is no NVIDIA GPU here")


def test_the_acceptance_holds_the_encoder_against_what_the_export_found(
    footage_bundle: tuple[Bundle, Footage], tmp_path: Path
) -> None:
    bundle, _ = footage_bundle
    found = accept(bundle, seconds=0.01, library=none)
    (check,) = [check for check in found.checks if check.what.endswith("latents as exported")]
    assert check.outcome == "passed" and "relative error" in check.found
    assert {part.made_of for part in found.cpu} == {"footage"} and "pictures of footage" in page(found)
    samples = read_samples(bundle)
    assert samples is not None
    rng = np.random.default_rng(0)
    noise = rng.normal(size=samples.latents.shape) * samples.latents.std()
    changed = with_latents(bundle, samples.latents + noise, tmp_path / "copy")
    (check,) = latents_check(changed, usual_engine(changed, "encoder"))
    assert check.outcome == "failed" and "must be at most" in check.found
    assert list(latents_check(load("camera"), usual_engine(load("camera"), "encoder"))) == []


def test_peers_that_cannot_be_read_are_told(exported: Exported, tmp_path: Path) -> None:
    gone = Bundle(tmp_path, exported.bundle.manifest, exported.bundle.sha256)
    with pytest.raises(EngineError, match=r"cannot be read .* export the bundle again"):
        exact_engine(gone, "encoder")
