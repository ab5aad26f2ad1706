"""The one contract behind which every camera sits, and what its health check may say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edge.errors import UserError
from edge.messages import CameraFault, Frame


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """What is known of a camera beside its picture. faults: worst first, empty when healthy. restarts: how often the
    capture process was started anew. dropped: pictures of the source that were never handed out. ended: a file or
    folder has been played to its end (never true for a live source). failed: given up, no picture will ever come
    again, see detail. detail: one sentence for people, e.g. the last thing the capture process said before it
    died."""

    faults: tuple[CameraFault, ...] = ()
    frames: int = 0
    dropped: int = 0
    restarts: int = 0
    ended: bool = False
    failed: bool = False
    detail: str = ""


class CameraError(UserError):
    """The source cannot be opened; one sentence: what is wrong, where, what to do."""


class Camera(Protocol):
    """Pictures from somewhere. ``latest`` and ``status`` never block; one thread uses a camera.

    A camera opened with speed "max" (files and folders only) hands out every picture once, in order, as fast as they
    are taken: ``captured_ns`` is then the time in the recording, and ``latest`` ignores ``max_age_ns``.
    """

    @property
    def fingerprint(self) -> str:
        """Names the source and its picture size, so that a memory of one camera is not believed on another."""

    def start(self) -> None:
        """Begin to capture and wait for the first picture, at most the configured time. Raises CameraError."""

    def latest(self, max_age_ns: int) -> Frame | None:
        """The newest picture not seen before and not older than this, or None. The frame owns its pixels."""

    def wait(self, timeout_s: float) -> None:
        """Block until ``latest`` has a picture, the source has ended or failed, or the timeout. The control loop
        does so once, before its first tick."""

    def status(self) -> CameraStatus:
        """Health at this moment; a fault appears within 1 s of its cause and clears by itself."""

    def close(self) -> None:
        """Stop capturing; no process or shared memory is left behind. Safe to call twice."""
