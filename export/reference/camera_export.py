"""Export the camera model: ``python -m export.reference.camera_export --weights build/camera/camera.pt``.

torch weights -> FP32 graphs -> calibration on the footage that was trained on -> INT8 graphs -> a report of what
quantization cost, on footage that was not -> bundle with the attribution its licences ask for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.bundle import FORMAT, Bundle, LatentShape, Manifest, Part, Picture, Timing
from edge.engines.onnxruntime_engine import OnnxRuntimeEngine
from edge.errors import UserError
from edge.messages import Floats
from export.assemble import NO_GRAPHS, assemble, own_version
from export.feeds import encode, run
from export.onnx_graphs import to_onnx
from export.quantize.pipeline import Quantized, quantize
from export.reference.camera_data import FIXED_CAMERAS, SOURCES, TRAINED_SHARE, Clip, load, read_video
from export.reference.camera_model import CameraModel
from export.verify import latent_report

Feed = dict[str, NDArray[Any]]
PARTS: tuple[Part, Part] = ("encoder", "predictor")


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


def windows(latents: Floats, context: int) -> Iterator[tuple[Feed, Floats]]:
    """Every context in the runs, and what came after it."""
    for sequence in latents:
        for start in range(len(sequence) - context):
            yield {"context": sequence[None, start : start + context]}, sequence[start + context]


def export_camera(
    model: CameraModel,
    data: Path,
    out: Path,
    *,
    made_from: str,
    with_fp32: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Bundle:
    """The whole way from a torch model to a bundle at ``out``. data: folder of the footage, see camera_data. with_fp32:
    put the graphs from before quantization in as well. Raises UserError."""
    spec = model.spec
    say("writing the FP32 graphs")
    graphs = export_graphs(model)
    fp32 = {part: graph.SerializeToString() for part, graph in graphs.items()}
    exact = {part: OnnxRuntimeEngine(content, f"{part} (fp32)") for part, content in fp32.items()}

    footage = load(data)
    moving = [clip for clip in footage.clips if clip.fps > 0.0]
    pictures = runs(moving, model, 60, spec.context + 3, seed=1)
    source = f"{len(pictures)} runs of {spec.context + 3} frames of the training footage"
    say("calibrating")
    flat = np.concatenate(pictures)
    quantized: dict[Part, Quantized] = {}
    quantized["encoder"] = quantize(graphs["encoder"], lambda: ({"picture": p[None]} for p in flat), made_from=source)
    encoder = OnnxRuntimeEngine(quantized["encoder"].model, "encoder (int8)")
    latents = encode(encoder, np.stack(pictures))

    def feeds() -> Iterator[Feed]:
        return (feed for feed, _ in windows(latents, spec.context))

    quantized["predictor"] = quantize(graphs["predictor"], feeds, made_from=source)

    say("verifying on footage that was not trained on")
    fresh = [read_video(data / "intel_sample_videos" / name, TRAINED_SHARE, 0.5) for name in FIXED_CAMERAS]
    engines = {part: OnnxRuntimeEngine(q.model, f"{part} (int8)") for part, q in quantized.items()}
    report = _verify(exact, engines, runs(fresh, model, 15, spec.context + 9, seed=2), spec.context)
    report["linears_quantized"] = {part: q.linears for part, q in quantized.items()}

    manifest = Manifest(
        format=FORMAT,
        name="camera",
        version="1",
        kind="camera",
        made_from=made_from,
        made_by=f"latentloop {own_version()}, torch {torch.__version__}",
        licence="Apache-2.0",
        attribution=tuple(f"trained on: {source.attribution}" for source in SOURCES),
        picture=Picture(spec.height, spec.width),
        latent=LatentShape(spec.grid[0] * spec.grid[1], spec.latent, spec.grid),
        time=Timing(spec.step_s, spec.context),
        graphs=NO_GRAPHS,
        files={},
        int8=report,
    )
    return assemble(out, manifest, quantized, with_fp32=with_fp32)


def _verify(
    exact: dict[Part, OnnxRuntimeEngine],
    engines: dict[Part, OnnxRuntimeEngine],
    pictures: Sequence[NDArray[np.uint8]],
    context: int,
) -> dict[str, Any]:
    """Latents of INT8 against FP32; prediction errors of both, each on its own latents, as a share of their variance."""
    latents = {"fp32": encode(exact["encoder"], np.stack(pictures))}
    latents["int8"] = encode(engines["encoder"], np.stack(pictures))
    report: dict[str, Any] = {
        "encoder": latent_report(latents["fp32"], latents["int8"]),
        "predictor": {},
    }
    for kind, parts in (("fp32", exact), ("int8", engines)):
        pairs = [(run(parts["predictor"], feed)[0], feed["context"][0, -1], now) for feed, now in windows(latents[kind], context)]
        predicted, before, truth = (np.stack(x) for x in zip(*pairs, strict=True))
        variance = truth.var(axis=(0, 1)).mean()
        report["predictor"][f"{kind}_error"] = round(float(np.square(predicted - truth).mean() / variance), 4)
        report["predictor"][f"{kind}_error_if_nothing_changes"] = round(float(np.square(before - truth).mean() / variance), 4)
    report["verified_on"] = f"{len(pictures)} runs of {len(pictures[0])} frames of footage that was not trained on"
    return report


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m export.reference.camera_export", description=__doc__)
    parser.add_argument("--weights", type=Path, default=Path("build/camera/camera.pt"), help="default: %(default)s")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the footage (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("edge/bundles/camera"), help="default: %(default)s")
    parser.add_argument("--fp32", action="store_true", help="put the graphs from before quantization in as well (3 MB)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        bundle = export_camera(
            load_model(given.weights),
            given.data,
            given.out,
            made_from=f"{given.weights.name}, trained by export.reference.camera_train",
            with_fp32=given.fp32,
            say=lambda line: print(line, flush=True),
        )
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"wrote {bundle.folder}: {msgspec.json.format(msgspec.json.encode(bundle.manifest.int8), indent=1).decode()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
