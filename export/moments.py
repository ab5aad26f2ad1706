"""Pictures one after another with their times: of a recording, or of a live camera for a stated number of seconds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edge.cameras.camera import Camera, CameraError
from edge.cameras.decoders import open_decoder
from edge.cameras.opening import open_camera
from edge.cameras.source import Kind, Source, parse_source
from edge.clock import NS_PER_S, Clock, MonotonicClock
from edge.messages import Pixels
from export.feeds import Progress, unwatched

MAX_AGE_NS = NS_PER_S
WAIT_S = 0.1
PATIENCE_NS = 30 * NS_PER_S
"""A live camera that gives no picture without a fault for so long is given up."""
GAP_NS = NS_PER_S
"""After so long without a picture a live camera shows another scene."""


@dataclass(frozen=True)
class Moment:
    """time_ns: since the first picture. interval_ns: the usual time between two, 0 if unknown. pixels: decodes the picture,
    uint8 (H, W, 3) BGR, or None if it is damaged; valid until the next moment. resumed: pictures are missing before it."""

    time_ns: int
    interval_ns: int
    pixels: Callable[[], Pixels | None]
    resumed: bool = False


def is_recording(source: Source) -> bool:
    """It can be read again, from the same first picture."""
    return source.kind in (Kind.FILE, Kind.FOLDER)


def recorded(source: Source, fps: float, progress: Progress = unwatched) -> Iterator[Moment]:
    """Every picture of a video file, or of a folder at fps. progress: pictures read; nobody knows of how many. Raises
    CameraError."""
    decoder = open_decoder(source, fps)
    frames = 0
    with contextlib.closing(decoder):
        while decoder.grab():
            frames += 1
            progress(frames, 0)
            yield Moment(decoder.time_ns(), decoder.interval_ns(), decoder.retrieve)


def filmed(text: str, seconds: float, progress: Progress = unwatched) -> Iterator[Moment]:
    """The next seconds of a live camera, whatever SOURCE string names it (docs/cameras.md). progress: seconds filmed, and in
    all. Raises CameraError."""
    clock = MonotonicClock()
    camera = open_camera(text, clock=clock)
    with contextlib.closing(camera):
        camera.start()
        yield from moments_of(camera, parse_source(text).label, seconds, clock, progress)


def moments_of(camera: Camera, label: str, seconds: float, clock: Clock, progress: Progress = unwatched) -> Iterator[Moment]:
    """The healthy pictures of a camera that has been started, until so many seconds after the first. Pictures while it has a
    fault (edge.cameras.health) are left out. Raises CameraError if it fails, or is silent or at fault for PATIENCE_NS."""
    first_ns: int | None = None
    last_ns = heard_ns = clock.now_ns()
    interval_ns, faulty = 0, False
    while True:
        camera.wait(WAIT_S)
        frame = camera.latest(MAX_AGE_NS)
        if frame is None or frame.faults:
            status = camera.status()
            if frame is None and (status.ended or status.failed):
                raise CameraError(f"{label} has stopped ({status.detail or 'no reason known'}): check the camera and start again")
            seen = frame.faults if frame is not None else status.faults
            faulty = faulty or bool(seen)
            if clock.now_ns() - heard_ns > PATIENCE_NS:
                why = ", ".join(fault.value.replace("_", " ") for fault in seen) or status.detail or "no reason known"
                raise CameraError(f"{label} gave no usable picture for {PATIENCE_NS / NS_PER_S:.0f} s ({why}): check the camera")
            continue
        heard_ns = clock.now_ns()
        at_ns = frame.captured_ns
        resumed = first_ns is not None and (faulty or at_ns - last_ns > GAP_NS)
        if first_ns is None:
            first_ns = at_ns
        elif not resumed:
            interval_ns = at_ns - last_ns
        last_ns, faulty = at_ns, False
        elapsed_s = (at_ns - first_ns) / NS_PER_S
        if elapsed_s > seconds:
            return
        progress(int(elapsed_s), int(seconds))
        pixels = frame.pixels
        yield Moment(at_ns - first_ns, interval_ns, lambda pixels=pixels: pixels, resumed)  # type: ignore[misc]
