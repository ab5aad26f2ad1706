"""Train the rover's world model: ``python -m export.reference.rover_train --out FOLDER``; resumes where it stopped."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from export.reference.rover_data import TRAINING_SEED, VALIDATION_SEED, Footage, record
from export.reference.rover_model import RoverModel
from export.reference.sigreg import sigreg


def losses(model: RoverModel, pictures: Tensor, actions: Tensor, regularizer: float) -> tuple[Tensor, Tensor, Tensor]:
    """pictures uint8 (B, T, h, w, 3), actions (B, T, A). Returns total, prediction error, latent variance."""
    b, t = pictures.shape[:2]
    latents = model.encoder(pictures.flatten(0, 1)).reshape(b, t, -1)
    predicted = model.predictor(latents[:, :-1], actions[:, :-1])
    error = (predicted - latents[:, 1:]).float().square().mean()
    # A second step on its own output, so that a rollout meets in training what it meets in planning.
    again = model.predictor(torch.cat([latents[:, :1], predicted[:, :-1]], dim=1), actions[:, :-1])
    error2 = (again[:, 1:] - latents[:, 2:]).float().square().mean()
    spread = torch.stack([sigreg(latents[:, i]) for i in range(t)]).mean()
    total = error + 0.5 * error2 + regularizer * spread
    return total, error, latents.float().var(dim=(0, 1)).mean()


def batch_of(footage: Footage, rng: np.random.Generator, size: int, length: int) -> tuple[Tensor, Tensor]:
    episodes, steps = footage.actions.shape[:2]
    which = rng.integers(0, episodes, size)
    start = rng.integers(0, steps - length + 1, size)
    index = start[:, None] + np.arange(length)
    return torch.from_numpy(footage.pictures[which[:, None], index]), torch.from_numpy(footage.actions[which[:, None], index])


@torch.no_grad()
def evaluate(model: RoverModel, footage: Footage, steps: tuple[int, ...] = (1, 3, 5, 10)) -> dict[str, float]:
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
    out.mkdir(parents=True, exist_ok=True)
    footage = record(arguments.episodes, 16, TRAINING_SEED, progress=True)
    held_out = record(100, 16, VALIDATION_SEED)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = RoverModel().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, arguments.rate, total_steps=arguments.steps, pct_start=0.1)
    checkpoint = out / "checkpoint.pt"
    first = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        first = int(saved["step"])
        print(f"resuming at step {first}", flush=True)
    rng = np.random.default_rng([arguments.seed, first])
    started = time.monotonic()
    saved_at = started
    for step in range(first, arguments.steps):
        pictures, actions = batch_of(footage, rng, arguments.batch, 4)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=arguments.bf16):
            total, error, variance = losses(model, pictures.to(device), actions.to(device), arguments.regularizer)
        optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            rate = (step - first + 1) / (time.monotonic() - started)
            print(
                f"step {step} of {arguments.steps}  error {float(error):.4f}  variance {float(variance):.3f}  "
                f"total {float(total):.4f}  {rate:.1f} steps/s",
                flush=True,
            )
        if step % 500 == 499:
            cpu = model.to("cpu")
            print(evaluate(cpu, held_out), flush=True)
            model.to(device)
        if time.monotonic() - saved_at > 120 or step + 1 == arguments.steps:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
            torch.save({**state, "step": step + 1}, checkpoint)
            saved_at = time.monotonic()
    torch.save(model.to("cpu").state_dict(), out / "rover.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="build/rover", help="folder for checkpoints (default: %(default)s)")
    parser.add_argument("--episodes", type=int, default=2400)
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--rate", type=float, default=6e-4)
    parser.add_argument("--regularizer", type=float, default=0.02)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
