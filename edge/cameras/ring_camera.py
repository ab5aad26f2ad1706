"""The camera that the loop sees: takes pictures out of a frame ring, whoever fills it, and keeps their health."""

from __future__ import annotations

from typing import Protocol

from edge.cameras.camera import CameraError, CameraStatus
from edge.cameras.frame_ring import FrameRing
from edge.cameras.health import CameraHealth
from edge.clock import NS_PER_MS, NS_PER_S, Clock
from edge.messages import CameraFault, Frame

WAIT_STEP_NS = 2 * NS_PER_MS
START_STEP_NS = 5 * NS_PER_MS


class Feed(Protocol):
    """Whoever fills the ring. ``ended``, ``failed`` and ``detail`` as in CameraStatus."""

    ended: bool
    failed: bool
    detail: str

    @property
    def ring(self) -> FrameRing | None:
        """None until the first picture."""

    @property
    def restarts(self) -> int: ...

    def start(self) -> None:
        """Begin; returns at once. Raises CameraError."""

    def close(self) -> None: ...


class RingCamera:
    """See :class:`edge.cameras.camera.Camera`. label: names the source. recorded: every picture once and in recording
    time (speed "max"), so that health, too, is judged in recording time."""

    def __init__(self, feed: Feed, label: str, *, clock: Clock, start_timeout_s: float, recorded: bool = False) -> None:
        self._feed = feed
        self._label = label
        self._clock = clock
        self._start_timeout_s = start_timeout_s
        self._recorded = recorded
        self._health = CameraHealth()
        self._frames = 0
        self._dropped = 0
        self._last_sequence: int | None = None
        self._closed = False

    @property
    def feed(self) -> Feed:
        return self._feed

    @property
    def fingerprint(self) -> str:
        ring = None if self._closed else self._feed.ring
        return self._label if ring is None else f"{self._label} {ring.width}x{ring.height}"

    def start(self) -> None:
        try:
            self._feed.start()
            deadline_ns = self._clock.now_ns() + round(self._start_timeout_s * NS_PER_S)
            while (ring := self._feed.ring) is None or not ring.published:
                if self._feed.failed or self._feed.ended:
                    raise CameraError(self._feed.detail or f"{self._label} ended without a picture")
                if self._clock.now_ns() >= deadline_ns:
                    why = f": {self._feed.detail}" if self._feed.detail else ", and nothing says why"
                    raise CameraError(f"{self._label} gave no picture within {self._start_timeout_s:g} s{why}")
                self._clock.sleep_until_ns(self._clock.now_ns() + START_STEP_NS)
        except BaseException:
            self.close()
            raise

    def latest(self, max_age_ns: int) -> Frame | None:
        ring = None if self._closed else self._feed.ring
        picture = None if ring is None else ring.take()
        if picture is None:
            self._look_without_picture()
            return None
        now_ns = self._clock.now_ns()
        if self._last_sequence is not None:
            self._dropped += max(0, picture.sequence - self._last_sequence - 1)
        self._last_sequence = picture.sequence
        self._frames += 1
        seen_ns = picture.captured_ns if self._recorded else now_ns
        faults = self._health.frame(picture.pixels, picture.captured_ns, seen_ns, picture.source_size)
        if not self._recorded and now_ns - picture.captured_ns > max_age_ns:
            return None
        return Frame(picture.pixels, picture.captured_ns, picture.sequence, faults)

    def wait(self, timeout_s: float) -> None:
        deadline_ns = self._clock.now_ns() + round(timeout_s * NS_PER_S)
        while not (self._closed or self._unread() or self._feed.ended or self._feed.failed):
            now_ns = self._clock.now_ns()
            if now_ns >= deadline_ns:
                return
            self._clock.sleep_until_ns(min(deadline_ns, now_ns + WAIT_STEP_NS))

    def status(self) -> CameraStatus:
        unread = self._unread()
        if not unread:
            self._look_without_picture()
        faults = self._health.faults
        if self._feed.failed and CameraFault.NO_FRAMES not in faults:
            faults = (CameraFault.NO_FRAMES, *faults)
        return CameraStatus(
            faults=faults,
            frames=self._frames,
            dropped=self._dropped,
            restarts=self._feed.restarts,
            ended=self._feed.ended and not unread,
            failed=self._feed.failed and not unread,
            detail=self._feed.detail,
        )

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._feed.close()

    def _unread(self) -> bool:
        ring = None if self._closed else self._feed.ring
        return ring is not None and ring.unread

    def _look_without_picture(self) -> None:
        """What has ended is not missing, and a recording is as fast as it is."""
        if not (self._recorded or self._feed.ended or self._closed):
            self._health.silence(self._clock.now_ns())
