"""Footage to calibrate and to verify on: runs of pictures at the model's step, scaled as the runtime scales them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.bundle import Picture
from edge.cameras.source import Kind, Source, parse_source
from edge.clock import NS_PER_S
from edge.errors import UserError
from edge.intrinsics import Intrinsics, taken_out
from edge.messages import Pixels
from edge.scaling import Scaler
from export.feeds import Progress, unwatched
from export.moments import filmed, is_recording, recorded

STARTS_PER_RUN = 4
"""Runs of a short recording overlap: a new one starts this often while one lasts."""
MCAP_MAGIC = b"\x89MCAP0\r\n"
"""The first bytes of every MCAP file (mcap.dev/spec)."""
FEWEST_STARTED = 8
"""Four times as many are followed, however few are wanted, so that both halves have one."""


class FramesError(UserError):
    """The footage cannot be used; one sentence."""


@dataclass(frozen=True)
class Footage:
    """calibration, verification: uint8 (E, T, H, W, 3) BGR, from the first and the second half of the recording, so that
    no frame is in both. label: what it was, for people. lens: the one taken out of the pictures (edge.intrinsics.taken_out)."""

    calibration: NDArray[np.uint8]
    verification: NDArray[np.uint8]
    label: str
    lens: str = ""


@dataclass
class _Run:
    started_ns: int
    pictures: list[Pixels] = field(default_factory=list)
    ended_ns: int = 0


def check_source(source: str, seconds: float | None = None) -> Source:
    """What can be known before the source is opened, worth asking before long work. seconds: see read_footage. Raises
    CameraError and FramesError."""
    parsed = parse_source(source)
    _refuse_mcap(parsed)
    if is_recording(parsed) and seconds is not None:
        raise FramesError(f"{parsed.label} is a recording, and --seconds is for live cameras: leave it out")
    if not is_recording(parsed) and seconds is None:
        raise FramesError(f"{parsed.label} is live: say how long to film it, such as --seconds 60, or give a recording")
    return parsed


def short_name(source: Source) -> str:
    """For bundles and reports: the last part of the label, which has no password."""
    return source.label.rsplit("/", 1)[-1]


def read_footage(
    source: str,
    picture: Picture,
    step_s: float,
    length: int,
    limit: int,
    progress: Progress = unwatched,
    seconds: float | None = None,
    intrinsics: Intrinsics | None = None,
) -> Footage:
    """Read a video file or a folder of pictures, which count as one step apart; or film any live source of the runtime.

    length: pictures per run. limit: runs in each half, spread evenly. seconds: how long to film, None for a recording.
    progress: called with the number of frames read, or with the seconds filmed and in all. intrinsics: those of the camera,
    whose lens is then taken out as the runtime does it. Blocks until the source is read. Raises CameraError, FramesError and
    IntrinsicsError.
    """
    parsed = check_source(source, seconds)
    scaler = Scaler((picture.width, picture.height), intrinsics)
    step_ns = round(step_s * NS_PER_S)
    spacing_ns = max(step_ns, length * step_ns // STARTS_PER_RUN)
    moments = recorded(parsed, 1.0 / step_s, progress) if seconds is None else filmed(source, seconds, progress)
    runs: list[_Run] = []
    frames, next_start_ns, now = 0, 0, 0
    for moment in moments:
        now = moment.time_ns
        early_ns = moment.interval_ns // 2  # time stamps are rounded: the nearest frame is meant, not the next
        frames += 1
        if moment.resumed:  # no run may have a hole
            runs = [run for run in runs if len(run.pictures) == length]
            next_start_ns = now
        if now + early_ns >= next_start_ns:
            runs.append(_Run(now))
            next_start_ns = now + spacing_ns
            if len(runs) > 4 * max(limit, FEWEST_STARTED):  # a long recording: keep every other one and start them half as often
                runs = runs[::2]
                spacing_ns *= 2
        due = [r for r in runs if len(r.pictures) < length and now + early_ns >= r.started_ns + len(r.pictures) * step_ns]
        pixels = moment.pixels() if due else None
        if pixels is None:
            continue
        scaled = scaler.scaled(pixels)
        for run in due:
            run.pictures.append(scaled)
            run.ended_ns = now
    last_ns = now
    whole = [run for run in runs if len(run.pictures) == length]
    middle = last_ns // 2
    halves = [run for run in whole if run.ended_ns <= middle], [run for run in whole if run.started_ns > middle]
    if not all(halves):
        remedy = "give longer footage" if seconds is None else f"give --seconds {_enough_s(step_s, length, seconds)}"
        raise FramesError(
            f"{parsed.label} has {frames} pictures over {last_ns / NS_PER_S:.1f} s and its halves must each hold "
            f"{length} that are {step_s:g} s apart, to calibrate and to verify: {remedy}"
        )
    calibration, verification = (np.stack([np.stack(run.pictures) for run in _spread(half, limit)]) for half in halves)
    filmed_for = "" if seconds is None else f"{seconds:g} s of "
    label = f"{len(calibration)} runs of {length} frames from the first half of {filmed_for}{short_name(parsed)}"
    lens = taken_out(intrinsics)
    return Footage(calibration, verification, label + straightened_by(lens), lens)


def straightened_by(lens: str) -> str:
    """For bundles and reports: which lens was taken out of the pictures, empty for none."""
    return f", straightened by lens {lens}" if lens else ""


def read_steps(
    source: str, picture: Picture, step_s: float, intrinsics: Intrinsics | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A whole recording at the model's step, a folder's pictures counting as one step apart: uint8 (T, H, W, 3) BGR, and
    the number of each picture among all frames, (T,). intrinsics: see read_footage. Raises CameraError, FramesError and
    IntrinsicsError."""
    parsed = parse_source(source)
    _refuse_mcap(parsed)
    if not is_recording(parsed):
        raise FramesError(f"{parsed.label} is live and labels need footage that can be read again: record it to a file")
    scaler = Scaler((picture.width, picture.height), intrinsics)
    pictures: list[Pixels] = []
    indices: list[int] = []
    for number, moment in enumerate(recorded(parsed, 1.0 / step_s)):
        if moment.time_ns + moment.interval_ns // 2 >= round(len(pictures) * step_s * NS_PER_S):
            pixels = moment.pixels()
            if pixels is not None:
                pictures.append(scaler.scaled(pixels))
                indices.append(number)
    if not pictures:
        raise FramesError(f"{parsed.label} has no picture that can be decoded: give another recording")
    return np.stack(pictures), np.array(indices)


def _refuse_mcap(source: Source) -> None:
    """OpenCV would call it a video that is damaged."""
    if source.kind is not Kind.FILE:
        return
    with Path(source.target).open("rb") as file:
        found = file.read(len(MCAP_MAGIC))
    if found == MCAP_MAGIC or Path(source.target).suffix.lower() == ".mcap":
        raise FramesError(
            f"{source.label} is an MCAP recording, and its pictures cannot be read yet: save the camera's topic as a video or a "
            "folder of pictures and give that"
        )


def _enough_s(step_s: float, length: int, tried_s: float) -> int:
    """Twice what two runs without a break take, and more than what was tried."""
    return math.ceil(max(4 * length * step_s, 2 * tried_s))


def _spread(runs: list[_Run], limit: int) -> list[_Run]:
    if len(runs) <= limit:
        return runs
    return [runs[round(i)] for i in np.linspace(0, len(runs) - 1, limit)]
