"""From a SOURCE string to a camera."""

from __future__ import annotations

from typing import Literal

from edge.cameras.camera import Camera, CameraError
from edge.cameras.capture_feed import CaptureFeed
from edge.cameras.restarts import RestartPolicy
from edge.cameras.ring_camera import RingCamera
from edge.cameras.source import Kind, parse_source
from edge.cameras.world_feed import WorldFeed
from edge.clock import Clock

FOLDER_FPS = 10.0


def open_camera(
    source: str,
    *,
    clock: Clock,
    speed: Literal["real", "max"] = "real",
    loop: bool = False,
    fps: float | None = None,
    start_timeout_s: float = 10.0,
) -> Camera:
    """A camera for a SOURCE string (see docs/cameras.md), not started yet.

    speed: "real" plays files in real time, "max" as fast as the pictures are taken (see Camera). loop: begin a file or
    folder again when it ends. fps: pictures per second of a folder, 10 if None. Raises CameraError.
    """
    found = parse_source(source)
    if found.live and (speed == "max" or loop):
        asked = "speed max" if speed == "max" else "loop"
        raise CameraError(f"{found.label} is live and has no {asked}: that is for files and folders")
    if fps is not None and (found.kind is not Kind.FOLDER or not 0.0 < fps <= 1000.0):
        raise CameraError(f"fps is for folders of pictures, above 0 and at most 1000, not {fps:g} for {found.label}")
    if found.kind is Kind.WORLD:
        return RingCamera(WorldFeed(found.target), found.label, clock=clock, start_timeout_s=start_timeout_s)
    lossless = speed == "max"
    feed = CaptureFeed(found, clock=clock, lossless=lossless, loop=loop, fps=fps or FOLDER_FPS, policy=RestartPolicy())
    return RingCamera(feed, found.label, clock=clock, start_timeout_s=start_timeout_s, recorded=lossless)
