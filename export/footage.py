"""Footage as one source needs it: runs of its length at its step, and what nobody recorded with it, drawn at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from edge.bundle import Part
from edge.intrinsics import Intrinsics
from edge.messages import Floats
from export.effort import LEAST_PLANS, affordable, multiplications, within
from export.feeds import Plans, Progress, babbled_plans, clips, predictor_steps, unwatched
from export.frames import Footage, read_footage, straightened_by
from export.labels import Labelled, read_labelled
from export.sources.source import Source

RUNS = 32
"""Runs of footage to calibrate on, and as many to verify on; fewer for a model of which so many are more than WORK_SEEN."""
WORK_SEEN = 4e12
"""Multiplications of encoder and predictor in one pass over all runs."""
VERIFICATION_SEED = 4
VERIFICATION_PLANS = 100
"""Sets of plans; each is N plans of K steps in one call. Fewer for a large rollout (:func:`plan_sets`)."""


def run_length(source: Source) -> int:
    """Pictures that one run of footage must have: a context, and enough after it to see errors grow."""
    horizon = source.plan_shape[1] if source.plan_shape else 5
    return source.picture.frames + source.picture.per_step * (source.time.context + horizon - 1)


def read_for(
    source: Source,
    frames: str,
    progress: Progress = unwatched,
    seconds: float | None = None,
    intrinsics: Intrinsics | None = None,
) -> Footage:
    """frames: a recording, or a live source to film for so many seconds. intrinsics: of its camera. See read_footage. Blocks
    until it is read. Raises UserError."""
    picture, length = source.picture, run_length(source)
    steps = 1 + (length - picture.frames) // picture.per_step
    runs: dict[Part, int] = {"encoder": steps, "predictor": predictor_steps(steps, source.time.context)}
    work = sum(multiplications(source.graphs[part]) * times for part, times in runs.items() if part in source.graphs)
    limit = within(WORK_SEEN, work, RUNS)
    step_s = source.time.step_s / picture.per_step
    return in_steps(read_footage(frames, picture, step_s, length, limit, progress, seconds, intrinsics), source)


def plan_sets(graphs: Mapping[Part, onnx.ModelProto], wanted: int) -> int:
    """How many sets of plans to run the rollout on, if there is one."""
    return affordable(graphs["rollout"], wanted, least=LEAST_PLANS) if "rollout" in graphs else wanted


def in_steps(footage: Footage, source: Source) -> Footage:
    """Runs of pictures as what the encoder sees at each step: for an encoder of video runs of clips (E, T, F, H, W, 3)."""
    frames, per_step = source.picture.frames, source.picture.per_step
    if frames == 1:
        return footage
    calibration, verification = (clips(half, frames, per_step) for half in (footage.calibration, footage.verification))
    return replace(footage, calibration=calibration, verification=verification)


def labelled_for(
    source: Source,
    labels: Path | None,
    normal: NDArray[np.uint8],
    progress: Progress = unwatched,
    intrinsics: Intrinsics | None = None,
) -> Labelled | None:
    """labels: a file of export.labels, if there is one. normal: runs in which nothing is anomalous. intrinsics: of the camera
    that all of it is from. Raises UserError."""
    if labels is None:
        return None
    return read_labelled(labels, source.picture, source.time.step_s, normal, source.latent.grid, progress, intrinsics)


def drawn_actions(source: Source, runs: NDArray[np.uint8], seed: int) -> Floats:
    """Footage does not tell what was commanded: babbling, (E, T, A)."""
    return babbled_plans(np.random.default_rng(seed), runs.shape[0], runs.shape[1], len(source.actions))


def babbling(source: Source) -> Plans:
    """Plans of a source about whose actions nothing else is known."""
    return lambda rng, candidates, horizon: babbled_plans(rng, candidates, horizon, len(source.actions))


def verified_on(footage: Footage, name: str = "") -> str:
    """What was held back from calibration, for people. name: of the footage, where it is not said elsewhere."""
    runs = f"{len(footage.verification)} runs of {footage.verification.shape[1]} frames from the second half"
    return runs + (f" of {name}" if name else "") + straightened_by(footage.lens)
