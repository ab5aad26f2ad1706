"""Train the rover's world model: ``python -m export.reference.rover_train --out FOLDER``; resumes where it stopped."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from edge.worlds.rover import SPEC
from export.reference.rover_data import TRAINING_SEED, VALIDATION_SEED, Footage, record
from export.reference.rover_model import RoverModel
from export.reference.sigreg import sigreg
from export.reference.training import Training

LENGTH = 8
"""Frames of a training sequence."""
DEPTH = 5
"""Steps that the predictor takes on its own output in training, so that a rollout meets there what it meets in planning."""


class Batch(NamedTuple):
    """pictures: uint8 (B, T, h, w, 3). actions: float32 (B, T, A). names: float32 (B, T, 4), see PoseName."""

    pictures: Tensor
    actions: Tensor
    names: Tensor


class Losses(NamedTuple):
    """total and its parts: one-step error, error on the predictor's own output, Gaussian test, error of the named pose."""

    total: Tensor
    error: Tensor
    rollout: Tensor
    spread: Tensor
    pose: Tensor


def losses(model: RoverModel, batch: Batch, arguments: argparse.Namespace) -> Losses:
    """What one step of training lowers."""
    b, t = batch.pictures.shape[:2]
    latents = model.encoder(batch.pictures.flatten(0, 1)).reshape(b, t, -1)
    actions = batch.actions[:, :-1]
    ahead = model.predictor(latents[:, :-1], actions)
    error = (ahead - latents[:, 1:]).float().square().mean()
    rollout = torch.zeros((), device=latents.device)
    for step in range(2, DEPTH + 1):
        ahead = model.predictor(torch.cat([latents[:, : step - 1], ahead[:, step - 2 : -1]], dim=1), actions)
        rollout = rollout + (ahead[:, step - 1 :] - latents[:, step:]).float().square().mean()
    spread = sigreg(torch.cat([latents[:, 0], latents[:, t // 2], latents[:, -1]]))
    pose = (model.pose_name(latents.flatten(0, 1)) - batch.names.flatten(0, 1)).float().square().mean()
    total = error + 0.25 * rollout + arguments.spread * spread + arguments.pose * pose
    return Losses(total, error, rollout, spread, pose)


def batch_of(footage: Footage, rng: np.random.Generator, size: int) -> Batch:
    """Random sequences of :data:`LENGTH` frames."""
    episodes, steps = footage.actions.shape[:2]
    which = rng.integers(0, episodes, size)[:, None]
    index = rng.integers(0, steps - LENGTH + 1, size)[:, None] + np.arange(LENGTH)
    poses = footage.poses[which, index]
    place = poses[..., :2] / SPEC.arena_width - 0.5
    heading = poses[..., 2:]
    names = np.concatenate([3.0 * place, np.cos(heading), np.sin(heading)], axis=-1).astype(np.float32)
    return Batch(*map(torch.from_numpy, (footage.pictures[which, index], footage.actions[which, index], names)))


@torch.no_grad()
def evaluate(model: RoverModel, footage: Footage, steps: tuple[int, ...] = (1, 3, 5, 10, 13)) -> dict[str, float]:
    """Open-loop error after some steps as a share of the latent variance, and how well a linear map finds the pose."""
    model.eval()
    pictures = torch.from_numpy(footage.pictures)
    actions = torch.from_numpy(footage.actions)
    episodes = len(pictures)
    latents = torch.stack([model.encoder(pictures[i]) for i in range(episodes)])
    variance = latents.var(dim=(0, 1)).mean()
    sequence = latents[:, :3]
    report: dict[str, float] = {"latent_variance": float(variance)}
    for step in range(1, max(steps) + 1):
        window = sequence[:, -3:]
        upcoming = model.predictor(window, actions[:, sequence.shape[1] - 3 : sequence.shape[1]])[:, -1:]
        sequence = torch.cat([sequence, upcoming], dim=1)
        if step in steps:
            truth = latents[:, 2 + step]
            report[f"error_{step}"] = float((sequence[:, -1] - truth).square().mean() / variance)
            report[f"still_{step}"] = float((latents[:, 2] - truth).square().mean() / variance)
    poses = footage.poses.reshape(-1, 3)
    wanted = np.column_stack([poses[:, :2], np.cos(poses[:, 2]), np.sin(poses[:, 2])])
    flat = np.column_stack([latents.reshape(-1, latents.shape[-1]).numpy(), np.ones(len(poses))])
    half = len(flat) // 2
    solution = np.linalg.lstsq(flat[:half], wanted[:half], rcond=None)[0]
    missed = flat[half:] @ solution - wanted[half:]
    report["probe_position_m"] = float(np.hypot(missed[:, 0], missed[:, 1]).mean())
    model.train()
    return report


def train(arguments: argparse.Namespace) -> None:
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    out = Path(arguments.out)
    footage = record(arguments.episodes, 16, (TRAINING_SEED, arguments.footage), progress=True)
    held_out = record(100, 16, (VALIDATION_SEED,))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = RoverModel().to(device)
    if arguments.begin_with is not None:
        model.load_state_dict(torch.load(arguments.begin_with, weights_only=True))
    training = Training(model, rate=arguments.rate, steps=arguments.steps, folder=out)
    first = training.first
    rng = np.random.default_rng([arguments.seed, first])
    started = time.monotonic()
    for step in range(first, arguments.steps):
        batch = Batch(*(tensor.to(device) for tensor in batch_of(footage, rng, arguments.batch)))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=arguments.bf16):
            parts = losses(model, batch, arguments)
        training.lower(parts.total)
        if step % 100 == 0:
            rate = (step - first + 1) / (time.monotonic() - started)
            shown = "  ".join(f"{name} {float(part.detach()):.4f}" for name, part in parts._asdict().items())
            print(f"step {step} of {arguments.steps}  {shown}  {rate:.1f} steps/s", flush=True)
        if step % 500 == 499:
            cpu = model.to("cpu")
            print(evaluate(cpu, held_out), flush=True)
            model.to(device)
        training.keep(step)
    torch.save(model.to("cpu").state_dict(), out / "rover.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="build/rover", help="folder for checkpoints (default: %(default)s)")
    parser.add_argument("--begin-with", type=Path, help="weights to train further, such as an earlier rover.pt")
    parser.add_argument("--episodes", type=int, default=12000, help="of 16 frames each (default: %(default)s)")
    parser.add_argument("--footage", type=int, default=0, help="which footage to record, 0, 1, 2, ... (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak of the one-cycle schedule (default: %(default)s)")
    parser.add_argument("--spread", type=float, default=0.05, help="weight: latents are Gaussian (default: %(default)s)")
    parser.add_argument("--pose", type=float, default=3.0, help="weight: naming the pose (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
