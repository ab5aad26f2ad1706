"""Export the camera model: ``python -m export.reference.camera_export --weights build/camera/camera.pt``.

torch weights -> FP32 graphs -> calibration on the footage that was trained on -> INT8 graphs -> a report of what
quantization cost, on footage that was not -> bundle with the attribution its licences ask for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.bundle import LatentShape, Part, Picture, Timing
from edge.errors import UserError
from edge.messages import Floats
from export.frames import Footage
from export.onnx_graphs import to_onnx
from export.pipeline import export_bundle, say_outcome
from export.quantize.pipeline import PLAIN
from export.reference.camera_data import FIXED_CAMERAS, SOURCES, TRAINED_SHARE, Clip, load, read_video
from export.reference.camera_model import CameraModel
from export.sources.source import Feed, Source


class _EncoderGraph(nn.Module):
    def __init__(self, model: CameraModel) -> None:
        super().__init__()
        self.encoder = model.encoder

    def forward(self, picture: Tensor) -> Tensor:
        latent: Tensor = self.encoder(picture)
        return latent


class _PredictorGraph(nn.Module):
    def __init__(self, model: CameraModel) -> None:
        super().__init__()
        self.predictor = model.predictor

    def forward(self, context: Tensor) -> Tensor:
        predicted: Tensor = self.predictor(context)
        return predicted


def load_model(path: Path) -> CameraModel:
    """The model from a state dictionary, or from a training checkpoint. Raises UserError."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        model = CameraModel()
        model.load_state_dict(saved.get("model", saved))
    except OSError as error:
        raise UserError(f"weights {path} cannot be read ({error.strerror}): give the file that camera_train wrote") from None
    except Exception as error:  # noqa: BLE001 - torch raises half a dozen types for a file that is not what it expects
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"weights {path} do not fit the camera model ({reason}): give the file camera_train wrote") from None
    return model.eval()


def export_graphs(model: CameraModel) -> dict[Part, onnx.ModelProto]:
    """The two FP32 graphs."""
    spec = model.spec
    gh, gw = spec.grid
    picture = torch.zeros(1, spec.height, spec.width, 3, dtype=torch.uint8)
    context = torch.zeros(1, spec.context, gh * gw, spec.latent)
    return {
        "encoder": to_onnx(_EncoderGraph(model), {"picture": picture}, ["latent"]),
        "predictor": to_onnx(_PredictorGraph(model), {"context": context}, ["predicted"]),
    }


def runs(clips: Sequence[Clip], model: CameraModel, count: int, length: int, seed: int) -> list[NDArray[np.uint8]]:
    """``count`` runs of ``length`` model pictures, one step of the model apart, spread over the clips."""
    rng = np.random.default_rng(seed)
    size = (model.spec.width, model.spec.height)
    found = []
    for number in range(count):
        clip = clips[number % len(clips)]
        spots = np.rint(np.arange(length) * clip.fps * model.spec.step_s).astype(int)
        spots = np.minimum(spots + int(rng.integers(0, max(1, len(clip.frames) - spots[-1]))), len(clip.frames) - 1)
        found.append(np.stack([cv2.resize(clip.frames[i], size, interpolation=cv2.INTER_AREA) for i in spots]))
    return found


def source_of(model: CameraModel, made_from: str) -> Source:
    """The model as the pipeline takes it, with torch as the peer of its graphs and the attribution its footage asks for."""
    spec = model.spec

    def peer(part: Part, feed: Feed) -> Floats:
        given = torch.from_numpy(feed["picture" if part == "encoder" else "context"])
        with torch.no_grad():
            output: Floats = (model.encoder if part == "encoder" else model.predictor)(given).numpy()
        return output

    return Source(
        name="camera",
        licence="Apache-2.0",
        made_from=made_from,
        made_with=f"torch {torch.__version__}",
        picture=Picture(spec.height, spec.width),
        latent=LatentShape(spec.grid[0] * spec.grid[1], spec.latent, spec.grid),
        time=Timing(spec.step_s, spec.context),
        graphs=export_graphs(model),
        peer=peer,
        attribution=tuple(f"trained on: {source.attribution}" for source in SOURCES),
    )


def footage_of(model: CameraModel, data: Path) -> Footage:
    """To calibrate on, what was trained on; to verify on, what was not. data: folder of the footage, see camera_data. Raises
    UserError."""
    length = model.spec.context + 3
    moving = [clip for clip in load(data).clips if clip.fps > 0.0]
    fresh = [read_video(data / "intel_sample_videos" / name, TRAINED_SHARE, 0.5) for name in FIXED_CAMERAS]
    seen, unseen = runs(moving, model, 60, length, seed=1), runs(fresh, model, 15, length + 6, seed=2)
    return Footage(np.stack(seen), np.stack(unseen), f"{len(seen)} runs of {length} frames of the training footage")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m export.reference.camera_export", description=__doc__)
    parser.add_argument("--weights", type=Path, default=Path("build/camera/camera.pt"), help="default: %(default)s")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the footage (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("edge/bundles/camera"), help="default: %(default)s")
    parser.add_argument("--keep-float", action="append", default=[], metavar="LAYER", help="leave layers that end so in float")
    parser.add_argument("--fp32", action="store_true", help="put the graphs from before quantization in as well (3 MB)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        model = load_model(given.weights)
        outcome = export_bundle(
            source_of(model, f"{given.weights.name}, trained by export.reference.camera_train"),
            footage_of(model, given.data),
            given.out,
            keep_float=tuple(given.keep_float),
            how=PLAIN,
            with_fp32=given.fp32,
            with_samples=False,  # the footage is other people's
            say=lambda line: print(line, flush=True),
        )
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return say_outcome(outcome)


if __name__ == "__main__":
    sys.exit(main())
