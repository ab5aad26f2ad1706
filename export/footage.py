"""Footage as one source needs it: runs of its length at its step, and what nobody recorded with it, drawn at random."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import UserError
from edge.messages import Floats
from export.feeds import Plans, Progress, babbled_plans, clips, unwatched
from export.frames import Footage, read_footage
from export.labels import Labelled, read_labelled
from export.sources.source import Source

RUNS = 32
"""Runs of footage to calibrate on, and as many to verify on."""
VERIFICATION_SEED = 4
VERIFICATION_PLANS = 100
"""Sets of plans; each is N plans of K steps in one call."""


def run_length(source: Source) -> int:
    """Pictures that one run of footage must have: a context, and enough after it to see errors grow."""
    horizon = source.plan_shape[1] if source.plan_shape else 5
    return source.picture.frames + source.picture.per_step * (source.time.context + horizon - 1)


def read_for(source: Source, frames: str, progress: Callable[[int], None] = lambda seen: None) -> Footage:
    """frames: a video file or a folder of pictures. Blocks until it is read. Raises UserError."""
    picture = source.picture
    return in_steps(
        read_footage(frames, picture, source.time.step_s / picture.per_step, run_length(source), RUNS, progress), source
    )


def in_steps(footage: Footage, source: Source) -> Footage:
    """Runs of pictures as what the encoder sees at each step: for an encoder of video runs of clips (E, T, F, H, W, 3)."""
    frames, per_step = source.picture.frames, source.picture.per_step
    if frames == 1:
        return footage
    calibration, verification = (clips(half, frames, per_step) for half in (footage.calibration, footage.verification))
    return Footage(calibration, verification, footage.label)


def labelled_for(
    source: Source, labels: Path | None, normal: NDArray[np.uint8], progress: Progress = unwatched
) -> Labelled | None:
    """labels: a file of export.labels, if there is one. normal: runs in which nothing is anomalous. Raises UserError."""
    if labels is None:
        return None
    if source.picture.frames > 1:
        raise UserError(f"labels {labels} cannot be used: {source.name} sees clips, and only pictures are labelled so far")
    return read_labelled(labels, source.picture, source.time.step_s, normal, source.latent.grid, progress)


def drawn_actions(source: Source, runs: NDArray[np.uint8], seed: int) -> Floats:
    """Footage does not tell what was commanded: babbling, (E, T, A)."""
    return babbled_plans(np.random.default_rng(seed), runs.shape[0], runs.shape[1], len(source.actions))


def babbling(source: Source) -> Plans:
    """Plans of a source about whose actions nothing else is known."""
    return lambda rng, candidates, horizon: babbled_plans(rng, candidates, horizon, len(source.actions))


def verified_on(footage: Footage) -> str:
    """What was held back from calibration, for people."""
    return f"{len(footage.verification)} runs of {footage.verification.shape[1]} frames from the second half"
