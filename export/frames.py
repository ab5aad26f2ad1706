"""Footage to calibrate and to verify on: runs of pictures at the model's step, scaled as the runtime scales them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge.bundle import Picture
from edge.cameras.decoders import open_decoder
from edge.cameras.source import Kind, parse_source
from edge.clock import NS_PER_S
from edge.errors import UserError
from edge.messages import Pixels
from edge.scaling import Scaler

STARTS_PER_RUN = 4
"""Runs of a short recording overlap: a new one starts this often while one lasts."""
FEWEST_STARTED = 8
"""Four times as many are followed, however few are wanted, so that both halves have one."""


class FramesError(UserError):
    """The footage cannot be used; one sentence."""


@dataclass(frozen=True)
class Footage:
    """calibration, verification: uint8 (E, T, H, W, 3) BGR, from the first and the second half of the recording, so that
    no frame is in both. label: what it was, for people."""

    calibration: NDArray[np.uint8]
    verification: NDArray[np.uint8]
    label: str


@dataclass
class _Run:
    started_ns: int
    pictures: list[Pixels] = field(default_factory=list)
    ended_ns: int = 0


def read_footage(
    source: str,
    picture: Picture,
    step_s: float,
    length: int,
    limit: int,
    progress: Callable[[int], None] = lambda frames: None,
) -> Footage:
    """Read a video file or a folder of pictures, which count as one step apart.

    length: pictures per run. limit: runs in each half, spread evenly. progress: called with the number of frames read.
    Blocks until the source is read. Raises CameraError and FramesError.
    """
    parsed = parse_source(source)
    if parsed.kind not in (Kind.FILE, Kind.FOLDER):
        raise FramesError(f"{parsed.label} is live and calibration needs footage that can be read again: record it to a file")
    scaler = Scaler((picture.width, picture.height))
    step_ns = round(step_s * NS_PER_S)
    spacing_ns = max(step_ns, length * step_ns // STARTS_PER_RUN)
    decoder = open_decoder(parsed, 1.0 / step_s)
    early_ns = decoder.interval_ns() // 2  # time stamps are rounded: the nearest frame is meant, not the next
    runs: list[_Run] = []
    frames, next_start_ns, last_ns = 0, 0, 0
    try:
        while decoder.grab():
            now = last_ns = decoder.time_ns()
            frames += 1
            progress(frames)
            if now + early_ns >= next_start_ns:
                runs.append(_Run(now))
                next_start_ns = now + spacing_ns
                # A long recording: keep every other one and start them half as often.
                if len(runs) > 4 * max(limit, FEWEST_STARTED):
                    runs = runs[::2]
                    spacing_ns *= 2
            due = [r for r in runs if len(r.pictures) < length and now + early_ns >= r.started_ns + len(r.pictures) * step_ns]
            pixels = decoder.retrieve() if due else None
            if pixels is None:
                continue
            scaled = scaler.scaled(pixels)
            for run in due:
                run.pictures.append(scaled)
                run.ended_ns = now
    finally:
        decoder.close()
    whole = [run for run in runs if len(run.pictures) == length]
    middle = last_ns // 2
    halves = [run for run in whole if run.ended_ns <= middle], [run for run in whole if run.started_ns > middle]
    if not all(halves):
        raise FramesError(
            f"{parsed.label} has {frames} pictures over {last_ns / NS_PER_S:.1f} s and its halves must each hold "
            f"{length} that are {step_s:g} s apart, to calibrate and to verify: give longer footage"
        )
    calibration, verification = (np.stack([np.stack(run.pictures) for run in _spread(half, limit)]) for half in halves)
    label = f"{len(calibration)} runs of {length} frames from the first half of {parsed.label.rsplit('/', 1)[-1]}"
    return Footage(calibration, verification, label)


def read_steps(source: str, picture: Picture, step_s: float) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A whole recording at the model's step, a folder's pictures counting as one step apart: uint8 (T, H, W, 3) BGR, and
    the number of each picture among all frames, (T,). Raises CameraError and FramesError."""
    parsed = parse_source(source)
    if parsed.kind not in (Kind.FILE, Kind.FOLDER):
        raise FramesError(f"{parsed.label} is live and labels need footage that can be read again: record it to a file")
    scaler = Scaler((picture.width, picture.height))
    decoder = open_decoder(parsed, 1.0 / step_s)
    early_ns = decoder.interval_ns() // 2
    pictures: list[Pixels] = []
    indices: list[int] = []
    frames = 0
    try:
        while decoder.grab():
            if decoder.time_ns() + early_ns >= round(len(pictures) * step_s * NS_PER_S):
                pixels = decoder.retrieve()
                if pixels is not None:
                    pictures.append(scaler.scaled(pixels))
                    indices.append(frames)
            frames += 1
    finally:
        decoder.close()
    if not pictures:
        raise FramesError(f"{parsed.label} has no picture that can be decoded: give another recording")
    return np.stack(pictures), np.array(indices)


def _spread(runs: list[_Run], limit: int) -> list[_Run]:
    if len(runs) <= limit:
        return runs
    return [runs[round(i)] for i in np.linspace(0, len(runs) - 1, limit)]
