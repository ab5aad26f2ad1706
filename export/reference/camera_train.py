"""Train the camera model: ``python -m export.reference.camera_train --out FOLDER``; resumes where it stopped."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.reference import camera_data
from export.reference.camera_data import FIXED_CAMERAS, TRAINED_SHARE, WINDOW, Windows, read_video
from export.reference.camera_model import SPEC, CameraModel
from export.reference.sigreg import sigreg
from export.reference.training import Training

ROWS = 512
"""So many token latents at a time are compared with the normal distribution."""


def losses(model: CameraModel, pictures: Tensor, regularizer: float) -> tuple[Tensor, Tensor, Tensor]:
    """pictures uint8 (B, C + 1, WINDOW, WINDOW, 3). Returns total, prediction error, latent variance."""
    b, t = pictures.shape[:2]
    side = WINDOW // SPEC.patch
    latents = model.encoder(pictures.flatten(0, 1)).reshape(b, t, side * side, -1)
    predicted = model.predictor(latents[:, :-1], (side, side))
    error = (predicted - latents[:, -1]).float().square().mean()
    tokens = latents.flatten(0, 2)
    spread = sigreg(tokens[torch.randperm(len(tokens))[:ROWS]], directions=64)
    return error + regularizer * spread, error, latents.float().var(dim=(0, 1, 2)).mean()


def model_pictures(frames: NDArray[np.uint8], spots: NDArray[np.int64]) -> Tensor:
    """Frames as the model sees them: uint8 (n, SPEC.height, SPEC.width, 3)."""
    size = (SPEC.width, SPEC.height)
    return torch.from_numpy(np.stack([cv2.resize(frames[i], size, interpolation=cv2.INTER_AREA) for i in spots]))


@torch.no_grad()
def evaluate(model: CameraModel, data: Path) -> dict[str, float]:
    """On the footage between the trained share and the middle of each fixed-camera clip.

    error: one-step prediction error as a share of the latent variance; still: that of "nothing changes"; foreign:
    AUROC of the distance to the nearest of the trained share's tokens, between tokens under a cut-out of another clip
    and all the others.
    """
    model.eval()
    seen = [read_video(data / "intel_sample_videos" / name, last=TRAINED_SHARE) for name in FIXED_CAMERAS]
    fresh = [read_video(data / "intel_sample_videos" / name, TRAINED_SHARE, 0.5) for name in FIXED_CAMERAS]
    rng = np.random.default_rng(0)
    report: dict[str, float] = {}
    for index, (before, after) in enumerate(zip(seen, fresh, strict=True)):
        stride = before.fps * SPEC.step_s
        known = model.encoder(model_pictures(before.frames, np.arange(0, len(before.frames), 3)))
        spots = np.rint(np.arange(0.0, len(after.frames) - 1, stride)).astype(int)
        pictures = model_pictures(after.frames, spots)
        latents = model.encoder(pictures)
        variance = latents.var(dim=(0, 1)).mean()
        context = torch.stack([latents[i : len(latents) - SPEC.context + i] for i in range(SPEC.context)], dim=1)
        truth = latents[SPEC.context :]
        name = before.name.split("-")[0]
        report[f"{name}_variance"] = float(variance)
        report[f"{name}_error"] = float((model.predictor(context) - truth).square().mean() / variance)
        report[f"{name}_still"] = float((context[:, -1] - truth).square().mean() / variance)
        pasted = pictures[::4].clone()
        under = torch.zeros(len(pasted), *SPEC.grid, dtype=torch.bool)
        other = seen[(index + 1) % len(seen)].frames
        for number, picture in enumerate(pasted):
            cut = cv2.resize(other[rng.integers(len(other))], (SPEC.width, SPEC.height))
            x, y = int(rng.integers(0, SPEC.grid[1] - 2)), int(rng.integers(0, SPEC.grid[0] - 2))
            here = np.s_[y * 16 : y * 16 + 32, x * 16 : x * 16 + 32]
            away_y, away_x = int(rng.integers(0, SPEC.height - 32)), int(rng.integers(0, SPEC.width - 32))
            picture[here] = torch.from_numpy(cut[away_y : away_y + 32, away_x : away_x + 32].copy())
            under[number, y : y + 2, x : x + 2] = True
        bank = known.flatten(0, 1)[torch.from_numpy(rng.choice(known.shape[0] * known.shape[1], 8000, replace=True))]
        distance = torch.cdist(model.encoder(pasted).flatten(0, 1), bank).min(dim=1).values
        report[f"{name}_foreign"] = auroc(distance[under.flatten()].numpy(), distance[~under.flatten()].numpy())
    model.train()
    return report


def auroc(higher: NDArray[np.float32], lower: NDArray[np.float32]) -> float:
    """How often a score of the first kind lies above one of the second."""
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, side="left") + np.searchsorted(ordered, higher, side="right")
    return float(below.mean() / (2.0 * len(ordered)))


def train(arguments: argparse.Namespace) -> None:
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(1)
    out = Path(arguments.out)
    footage = camera_data.load(Path(arguments.data))
    model = CameraModel()
    training = Training(model, rate=arguments.rate, steps=arguments.steps, folder=out)
    first = training.first
    windows = Windows(footage, SPEC.context + 1, SPEC.step_s, [arguments.seed, first])
    started = time.monotonic()
    for step in range(first, arguments.steps):
        pictures = torch.from_numpy(windows.batch(arguments.batch))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.bf16):
            total, error, variance = losses(model, pictures, arguments.regularizer)
        training.lower(total)
        if step % 100 == 0:
            rate = (step - first + 1) / (time.monotonic() - started)
            print(
                f"step {step} of {arguments.steps}  error {float(error.detach()):.4f}  variance {float(variance.detach()):.3f}  "
                f"total {float(total.detach()):.4f}  {rate:.1f} steps/s",
                flush=True,
            )
        if step % 800 == 799 or step + 1 == arguments.steps:
            report = evaluate(model, Path(arguments.data))
            print("  ".join(f"{name} {value:.3f}" for name, value in report.items()), flush=True)
        training.keep(step)
    torch.save(model.state_dict(), out / "camera.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data", help="folder of the footage (default: %(default)s)")
    parser.add_argument("--out", default="build/camera", help="folder for checkpoints (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--regularizer", type=float, default=0.02)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
