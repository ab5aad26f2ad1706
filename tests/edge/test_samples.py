"""Samples of footage in a bundle: written, read, held against the manifest, and left out of the way where there are none."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge.bundle import Bundle, BundleError, load
from edge.samples import FILE, MOST_BYTES, RUNS, Samples, read_samples, runs_of

Carrying = Callable[[bytes], Bundle]


@pytest.fixture
def carrying(tmp_path: Path) -> Carrying:
    """The rover's bundle, with these bytes as its samples."""

    def make(data: bytes) -> Bundle:
        original = load("rover")
        folder = tmp_path / "bundle"
        shutil.copytree(original.folder, folder, dirs_exist_ok=True)
        (folder / FILE).write_bytes(data)
        manifest = folder / "bundle.toml"
        text = manifest.read_text().replace("[files]\n", f'[files]\n"{FILE}" = "{hashlib.sha256(data).hexdigest()}"\n')
        manifest.write_text(text)
        return load(folder)

    return make


def some(bundle: Bundle, runs: int = 2) -> Samples:
    manifest, rng = bundle.manifest, np.random.default_rng(0)
    steps, picture, latent = manifest.time.context, manifest.picture, manifest.latent
    pictures = rng.integers(0, 256, (runs, steps, picture.frames, picture.height, picture.width, 3), dtype=np.uint8)
    return Samples(pictures, rng.normal(size=(runs, steps, latent.tokens, latent.dim)).astype(np.float32))


def test_what_is_written_is_read_again(carrying: Carrying) -> None:
    samples = some(load("rover"))
    found = read_samples(carrying(samples.to_bytes()))
    assert found is not None
    assert np.array_equal(found.pictures, samples.pictures) and np.array_equal(found.latents, samples.latents)
    steps, latents = found.steps()
    context = samples.pictures.shape[1]
    assert np.array_equal(steps[context + 1], samples.pictures[1, 1]) and np.array_equal(latents[context], samples.latents[1, 0])


def test_a_bundle_without_any_loads_and_has_none() -> None:
    assert read_samples(load("rover")) is None and read_samples(load("camera")) is None


def saved(**arrays: object) -> bytes:
    data = io.BytesIO()
    np.savez(data, **arrays)  # type: ignore[arg-type]
    return data.getvalue()


GOOD = some(load("rover"))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "holds no samples"),
        (b"PK\x03\x04 and then nothing", "holds no samples"),
        (GOOD.to_bytes()[:-200], "holds no samples"),
        (saved(pictures=GOOD.pictures), "latents is not a file"),
        (saved(pictures=np.array([object()]), latents=GOOD.latents), "allow_pickle=False"),
        (saved(pictures=GOOD.pictures[:, :, :, 1:], latents=GOOD.latents), "has pictures uint8 .* and the bundle needs uint8"),
        (saved(pictures=GOOD.pictures.astype(np.float32), latents=GOOD.latents), "has pictures float32"),
        (saved(pictures=GOOD.pictures, latents=GOOD.latents[1:]), "has latents float32"),
        (saved(pictures=GOOD.pictures[:0], latents=GOOD.latents[:0]), "has pictures uint8"),
        (saved(pictures=np.uint8(3), latents=GOOD.latents), "has pictures uint8 \\(\\)"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(carrying: Carrying, data: bytes, says: str) -> None:
    bundle = carrying(data)
    with pytest.raises(BundleError, match=says) as caught:
        read_samples(bundle)
    assert "\n" not in str(caught.value) and FILE in str(caught.value)


def test_a_file_that_is_there_and_not_listed_is_not_read(carrying: Carrying) -> None:
    bundle = carrying(GOOD.to_bytes())
    unlisted = msgspec.structs.replace(bundle.manifest, files={})
    assert read_samples(Bundle(bundle.folder, unlisted, bundle.sha256)) is None


@pytest.mark.parametrize(
    ("picture", "frames", "context", "runs"),
    [((64, 64), 1, 4, RUNS), ((224, 224), 1, 3, RUNS), ((518, 518), 1, 1, RUNS), ((518, 518), 1, 4, 1), ((256, 256), 64, 1, 1)],
)
def test_large_pictures_are_fewer(picture: tuple[int, int], frames: int, context: int, runs: int) -> None:
    manifest = load("rover").manifest
    size = msgspec.structs.replace(manifest.picture, height=picture[0], width=picture[1], frames=frames)
    manifest = msgspec.structs.replace(manifest, picture=size, time=msgspec.structs.replace(manifest.time, context=context))
    assert runs_of(manifest) == runs
    assert runs == 1 or runs * context * frames * picture[0] * picture[1] * 3 <= MOST_BYTES
