"""The capture process: ``python -m edge.cameras.capture`` opens one source and writes its pictures into a frame ring.

It is a process of its own because decoders crash and drivers hang. It reads one JSON :class:`Job` from standard input,
says what happens as JSON lines (:class:`Said`) on standard output, and dies with its parent.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

import cv2
import msgspec

from edge.cameras.camera import CameraError
from edge.cameras.capture_messages import Job, Said
from edge.cameras.decoders import open_decoder
from edge.cameras.frame_ring import FrameRing
from edge.clock import NS_PER_MS, NS_PER_S, Clock, MonotonicClock
from edge.messages import Pixels

BEAT_NS = 100 * NS_PER_MS
LOSSLESS_POLL_NS = NS_PER_MS // 2
STARVED_NS = 250 * NS_PER_MS
DAMAGED_IN_A_ROW = 50
DEVICE_STAMP_TRUST_NS = 2 * NS_PER_S
PR_SET_PDEATHSIG = 1


class Outlet:
    """Where pictures go: makes the ring when the first one shows its size, or goes on in the one that is there."""

    def __init__(self, job: Job, clock: Clock) -> None:
        self._job = job
        self._clock = clock
        self._ring = FrameRing(job.ring, "the shared memory") if os.fstat(job.ring).st_size else None
        if self._ring is not None:
            say(Said("ring"))

    @property
    def last_sequence(self) -> int:
        return -1 if self._ring is None else self._ring.last_sequence

    def beat(self) -> None:
        if self._ring is not None:
            self._ring.note_alive(self._clock.now_ns())

    def wait_until(self, when_ns: int) -> None:
        while self._clock.now_ns() < when_ns:
            self.beat()
            self._clock.sleep_until_ns(min(when_ns, self._clock.now_ns() + BEAT_NS))

    def put(self, pixels: Pixels, captured_ns: int, sequence: int) -> None:
        """Blocks while a lossless ring is full."""
        if self._ring is None:
            height, width = pixels.shape[:2]
            self._ring = FrameRing.create_in(self._job.ring, height, width, lossless=self._job.lossless)
            self.beat()
            self._ring.write(pixels, captured_ns, sequence)
            say(Said("ring"))
            return
        while not self._ring.write(pixels, captured_ns, sequence):
            self.wait_until(self._clock.now_ns() + LOSSLESS_POLL_NS)
        self.beat()


def play(job: Job, outlet: Outlet, clock: Clock) -> None:
    """A file or folder, by its presentation timestamps. In real time a picture that is late is dropped, unless
    nothing was shown for a while: then it goes out with the time it was due, so that the reader sees it is late."""
    first_sequence, offset_ns, skip = job.first_sequence, job.offset_ns, job.skip
    anchor_ns: int | None = None
    shown = 0
    shown_at_ns = 0
    while True:
        decoder = open_decoder(job.source, job.fps)
        say(Said("pass", first_sequence=first_sequence, offset_ns=offset_ns))
        interval_ns = decoder.interval_ns()
        count = 0
        media_ns = -1
        while decoder.grab():
            outlet.beat()
            count += 1
            media_ns = max(decoder.time_ns(), media_ns + 1)
            if count <= skip:
                continue
            captured_ns = offset_ns + media_ns
            if not job.lossless:
                now_ns = clock.now_ns()
                if anchor_ns is None:
                    anchor_ns = now_ns - captured_ns
                captured_ns += anchor_ns
                if now_ns - captured_ns > interval_ns and now_ns - shown_at_ns < STARVED_NS:
                    continue
            pixels = decoder.retrieve()
            if pixels is None:
                continue
            if not job.lossless:
                outlet.wait_until(captured_ns)
                shown_at_ns = clock.now_ns()
            outlet.put(pixels, captured_ns, first_sequence + count - 1)
            shown += 1
        decoder.close()
        if shown == 0 and skip == 0:
            raise CameraError(f"{job.source.label} holds no picture that can be decoded: check it with another program")
        if not job.loop:
            return
        first_sequence += count
        offset_ns += media_ns + max(interval_ns, 1)
        skip = 0


def stream(job: Job, outlet: Outlet, clock: Clock) -> None:
    """A live source: every picture as it comes, until the source fails."""
    decoder = open_decoder(job.source, job.fps)
    sequence = outlet.last_sequence
    damaged = 0
    while damaged < DAMAGED_IN_A_ROW:
        outlet.beat()
        if not decoder.grab():
            raise CameraError(f"{job.source.label} stopped sending pictures: check its power and cable")
        now_ns = clock.now_ns()
        stamp_ns = decoder.time_ns()
        trusted = 0 <= now_ns - stamp_ns < DEVICE_STAMP_TRUST_NS
        sequence += 1
        pixels = decoder.retrieve()
        damaged = damaged + 1 if pixels is None else 0
        if pixels is not None:
            outlet.put(pixels, stamp_ns if trusted else now_ns, sequence)
    raise CameraError(f"{job.source.label} sends only damaged pictures: check its cable, or lower its resolution")


def say(said: Said) -> None:
    """Tell the parent; one write, so that lines stay whole."""
    os.write(sys.stdout.fileno(), msgspec.json.encode(said) + b"\n")


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it closes its cameras in order
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    _die_with(job.parent)
    cv2.setNumThreads(1)
    clock = MonotonicClock()
    live = job.source.live
    try:
        outlet = Outlet(job, clock)
        (stream if live else play)(job, outlet, clock)
    except CameraError as error:
        say(Said("error", message=str(error), final=not live))
        return 1
    except cv2.error as error:
        say(Said("error", message=f"OpenCV failed on {job.source.label}: {' '.join(str(error).split())}"))
        return 1
    say(Said("ended"))
    return 0


def _die_with(parent: int) -> None:
    """Linux kills this process when its parent dies, however it dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)


if __name__ == "__main__":
    sys.exit(main())
