"""The trajectory buffer of the reference firmware: points in device time, joined by cubic Hermite curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from firmware_bridge.board import LARGEST_SPEED, AxisLimits, Board
from firmware_bridge.messages import Code, Mode, Point

U32 = 0xFFFFFFFF
NRAD = 1_000_000
"""nrad in a mrad; also us in a second."""


def left(deadline_us: int, now_us: int) -> int:
    """Microseconds until the deadline, negative when past; right across the wrap."""
    return ((deadline_us - now_us + 0x80000000) & U32) - 0x80000000


def quotient(a: int, b: int) -> int:
    """a / b towards zero, as C divides."""
    return a // b if a >= 0 else -(-a // b)


@dataclass(frozen=True, slots=True)
class Aim:
    """Where an axis ought to be now. place: nrad, of no meaning for a velocity axis. speed: mrad/s."""

    place: int
    speed: int


def between(a: Point, b: Point, axis: int, mode: Mode, at_us: int) -> Aim:
    """The motion from a to b at a time between them, in the integers of the C core.

    Positions and slopes are in 1/256 mrad, the way through the segment in 1/65536. With D = p1 - p0 and slopes m over
    the segment, p(u) = p0 + m0 u + (3D - 2 m0 - m1) u^2 + (m0 + m1 - 2D) u^3 (cubic Hermite spline).
    """
    duration_us = whole = (b.t_us - a.t_us) & U32
    part = (at_us - a.t_us) & U32
    while whole > 0xFFFF:
        whole >>= 1
        part >>= 1
    u = (part << 16) // whole
    v0, v1 = a.velocity[axis], b.velocity[axis]
    if mode is Mode.VELOCITY:
        return Aim(0, v0 + ((v1 - v0) * u >> 16))
    way = (b.position[axis] - a.position[axis]) * 256
    m0 = quotient(v0 * duration_us * 256, 1_000_000)
    m1 = quotient(v1 * duration_us * 256, 1_000_000)
    a3, a2 = m0 + m1 - 2 * way, 3 * way - 2 * m0 - m1
    moved = ((((a3 * u >> 16) + a2) * u >> 16) + m0) * u >> 16
    slope = (((3 * a3 * u >> 16) + 2 * a2) * u >> 16) + m0
    speed = quotient(slope * 15625, 4 * duration_us)
    return Aim(
        (a.position[axis] * 256 + moved) * 15625 >> 2, max(-LARGEST_SPEED, min(LARGEST_SPEED, speed))
    )  # fmt: skip


class Trajectory:
    """moving: a trajectory commands the axes. queue: the points ahead, the first being the next."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._modes = [part.mode for part in board.parts]
        self.moving = False
        self.queue: list[Point] = []
        self._from = Point(0, (0,) * len(self._modes), (0,) * len(self._modes))

    def clear(self) -> None:
        self.moving = False
        self.queue = []

    def follow(self, now_us: int, patience_us: int) -> bool:
        """Pass the points that are due. False: it has ended in motion, longer ago than patience_us."""
        while self.queue and left(self.queue[0].t_us, now_us) <= 0:
            self._from = self.queue.pop(0)
        return bool(self.queue) or not any(self._from.velocity) or (now_us - self._from.t_us) & U32 < patience_us

    def aim(self, axis: int, now_us: int) -> Aim:
        if self.queue:
            return between(self._from, self.queue[0], axis, self._modes[axis], now_us)
        speed = self._from.velocity[axis]
        place = self._from.position[axis] * NRAD
        return Aim(place + speed * ((now_us - self._from.t_us) & U32 if speed else 0), speed)

    def queue_ms(self, now_us: int) -> int:
        return ((self.queue[-1].t_us - now_us) & U32) // 1000 if self.queue else 0

    def judge(self, points: Sequence[Point], now_us: int) -> Code:
        """Whether their times make sense."""
        for k, point in enumerate(points):
            if k and left(point.t_us, points[k - 1].t_us) <= 0:
                return Code.BAD_PAYLOAD
            if left(point.t_us, (now_us + self._board.horizon_us) & U32) > 0:
                return Code.TOO_EARLY
        return Code.OK

    def push(
        self,
        replace_from_us: int,
        points: Sequence[Point],
        limits: Sequence[AxisLimits],
        here: Point,
    ) -> tuple[Code, int, int]:
        """Take points in. here: where the axes are now. Returns the code, how many were late, which axes were clamped."""
        committed_us = (here.t_us + self._board.commit_us) & U32
        cut_us = replace_from_us if left(replace_from_us, committed_us) > 0 else committed_us
        kept = 0
        while kept < len(self.queue) and left(cut_us, self.queue[kept].t_us) > 0:
            kept += 1
        cuts = kept < len(self.queue)
        after_us = cut_us if cuts else committed_us
        if not cuts and kept and left(self.queue[-1].t_us, after_us) > 0:
            after_us = self.queue[-1].t_us
        late = 0
        while late < len(points) and left(points[late].t_us, after_us) <= 0:
            late += 1
        if late == len(points):
            return Code.LATE, late, 0
        if kept + cuts + len(points) - late > self._board.trajectory_points:
            return Code.FULL, 0, 0
        if cuts:
            a = self.queue[kept - 1] if kept else self._from
            aims = [between(a, self.queue[kept], i, mode, cut_us) for i, mode in enumerate(self._modes)]
            knot = Point(cut_us, tuple(quotient(aim.place, NRAD) for aim in aims), tuple(aim.speed for aim in aims))
            self.queue[kept:] = [self._limited(knot, limits)[0]]
        elif not kept:
            self._from = here
        clamped = 0
        for point in points[late:]:
            point, beyond = self._limited(point, limits)
            clamped |= beyond
            self.queue.append(point)
        self.moving = True
        return Code.OK, late, clamped

    def _limited(self, point: Point, limits: Sequence[AxisLimits]) -> tuple[Point, int]:
        """The point within the limits, and which axes were beyond."""
        position, velocity, clamped = [], [], 0
        for i, (mode, limit) in enumerate(zip(self._modes, limits, strict=True)):
            p = point.position[i] if mode is Mode.POSITION else 0
            v = point.velocity[i]
            position.append(max(limit.min_position, min(limit.max_position, p)))
            velocity.append(max(-limit.max_speed, min(limit.max_speed, v)))
            clamped |= (position[i] != p or velocity[i] != v) << i
        return Point(point.t_us, tuple(position), tuple(velocity)), clamped
