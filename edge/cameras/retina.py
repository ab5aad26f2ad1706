"""Looks at every picture of a camera in a thread of its own, so that a tick finds the newest one ready.

Copying a picture out of shared memory, judging its health and scaling it to the model's size take a millisecond that
would otherwise stand in the way of every command. With intrinsics the model's picture is straight as well.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace

from edge.cameras.camera import Camera, CameraError, CameraStatus
from edge.clock import NS_PER_S, Clock
from edge.intrinsics import Intrinsics, taken_out
from edge.messages import Frame
from edge.scaling import Scaler

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 0.05
"""How long the thread waits for a picture before it looks at the camera's health without one."""
JOIN_S = 2.0


class Retina:
    """A camera in front of a live camera; see :class:`edge.cameras.camera.Camera`. It owns the camera behind it.

    size: width and height of the model's picture, which its frames carry as ``small``. intrinsics: those of this camera, if
    its lens is to be taken out of ``small``; ``pixels`` stay as the camera gave them.
    """

    def __init__(self, camera: Camera, size: tuple[int, int], clock: Clock, intrinsics: Intrinsics | None = None) -> None:
        self._camera = camera
        self._intrinsics = intrinsics
        self._scaler = Scaler(size, intrinsics)
        self._clock = clock
        self._changed = threading.Condition()  # guards the three below
        self._newest: Frame | None = None
        self._status = CameraStatus()
        self._broken: Exception | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._look, name="retina", daemon=True)

    @property
    def fingerprint(self) -> str:
        plain = self._camera.fingerprint
        lens = taken_out(self._intrinsics)
        return f"{plain} straightened {lens}" if lens else plain

    def start(self) -> None:
        """Also raises IntrinsicsError, before the first tick, if the intrinsics do not fit the camera's pictures."""
        self._camera.start()
        if self._intrinsics is not None:
            self._look_once()
        self._thread.start()

    def latest(self, max_age_ns: int) -> Frame | None:
        with self._changed:
            frame, self._newest = self._newest, None
            broken = self._broken
        if broken is not None:
            raise CameraError(f"the pictures of {self.fingerprint} cannot be looked at ({broken}): report this") from broken
        if frame is not None and self._clock.now_ns() - frame.captured_ns > max_age_ns:
            return None
        return frame

    def wait(self, timeout_s: float) -> None:
        def settled() -> bool:
            status = self._status
            return self._newest is not None or status.ended or status.failed or self._broken is not None or self._closing

        with self._changed:
            self._changed.wait_for(settled, timeout_s)

    def status(self) -> CameraStatus:
        return self._status

    def close(self) -> None:
        self._closing = True
        if self._thread.is_alive():
            self._thread.join(JOIN_S)
        self._camera.close()

    def _look(self) -> None:
        camera = self._camera
        try:
            while not self._closing:
                camera.wait(LOOK_AGAIN_S)
                self._look_once()
                if self._status.ended or self._status.failed:
                    return
        except Exception as error:  # whatever it is, the loop must hear of it and not wait for pictures for ever
            log.exception("the pictures of %s cannot be looked at", camera.fingerprint)
            with self._changed:
                self._broken = error
                self._changed.notify_all()

    def _look_once(self) -> None:
        frame = self._camera.latest(NS_PER_S)
        if frame is not None:
            frame = replace(frame, small=self._scaler.scaled(frame.pixels))
        with self._changed:
            self._newest = frame or self._newest
            self._status = self._camera.status()
            self._changed.notify_all()
