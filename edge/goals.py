"""Errands: goals one after the other, where they come from, and when one counts as reached or given up.

A goal is a picture of how the world should look. Where pictures come from may be slow (a folder, a person, another
process), so a thread asks for the next one while the loop goes on without a goal.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from edge.cameras.source import pictures_in
from edge.clock import NS_PER_S, Clock
from edge.config import GoalConfig
from edge.encoder import FrameEncoder
from edge.errors import UserError
from edge.intrinsics import IntrinsicsError
from edge.messages import Event, Goal, Pixels, RobotState, Tick
from edge.scaling import Scaler


class GoalError(UserError):
    """A goal picture cannot be had; one sentence with the remedy."""


@dataclass(frozen=True, slots=True)
class GoalPicture:
    """A goal as a person gives it. pixels: uint8 (H, W, 3) BGR, seen by the robot's own camera."""

    name: str
    pixels: Pixels


class GoalSource(Protocol):
    """Where goals come from. Called from one thread, not the loop's.

    confirmed: of the goals that the robot believes to have reached, how many it really stood at, None if nobody can tell.
    """

    @property
    def confirmed(self) -> int | None: ...

    def next(self) -> GoalPicture | None:
        """The next goal, None when there are no more. May block. Raises GoalError."""

    def ended(self, name: str, reached: bool) -> None:
        """The robot believes to have reached this goal, or has given it up."""

    def close(self) -> None:
        """Let go; a blocked :meth:`next` returns None."""


class NoGoals:
    """A robot that only looks."""

    confirmed = None

    def next(self) -> GoalPicture | None:
        return None

    def ended(self, name: str, reached: bool) -> None:
        """Nothing ever ends here."""

    def close(self) -> None:
        """Nothing to let go."""


class PictureGoals:
    """Goals from one picture, or from all pictures of a folder in the order of their names."""

    confirmed = None

    def __init__(self, path: Path) -> None:
        """Raises GoalError if there is no picture at ``path``."""
        self._paths = pictures_in(path) if path.is_dir() else [path]
        if not self._paths or not self._paths[0].is_file():
            raise GoalError(f"there is no goal picture at {path}: give a PNG or JPEG picture, or a folder of them")

    def next(self) -> GoalPicture | None:
        if not self._paths:
            return None
        path = self._paths.pop(0)
        try:
            data = np.fromfile(path, dtype=np.uint8)
        except OSError as error:
            raise GoalError(f"the goal picture {path} cannot be read ({error.strerror}): put it back") from None
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None  # OpenCV raises on nothing at all
        if pixels is None:
            raise GoalError(f"the goal picture {path} cannot be decoded: save it as PNG or JPEG")
        return GoalPicture(path.stem, np.asarray(pixels, dtype=np.uint8))

    def ended(self, name: str, reached: bool) -> None:
        """Files do not care."""

    def close(self) -> None:
        self._paths = []


@dataclass(frozen=True, slots=True)
class _Offer:
    """A goal on its way to the loop. small: its picture at the model's size."""

    picture: GoalPicture
    small: Pixels


def _offer(picture: GoalPicture, scaler: Scaler) -> _Offer:
    try:
        return _Offer(picture, scaler.scaled(picture.pixels))
    except IntrinsicsError as error:
        raise GoalError(f"the goal {picture.name} cannot be straightened, because {error}") from None


class Errands:
    """Hands the loop its goal, and judges each tick. The loop's thread uses it; a thread of its own asks the source."""

    def __init__(
        self,
        source: GoalSource,
        encoder: FrameEncoder,
        config: GoalConfig,
        reached_cost: float,
        clock: Clock,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._encoder = encoder
        self._config = config
        self._reached_cost = reached_cost
        self._clock = clock
        self._wall_s = wall_s
        self._finished: tuple[str, bool] | None = None
        self._offered: queue.Queue[_Offer | GoalError] = queue.Queue(maxsize=1)
        self._wanted = threading.Semaphore(1)
        self._closing = False
        self._goal: Goal | None = None
        self._acting_ns = 0
        self._last_ns = 0
        self._dwelt = 0
        self._ended: list[Event] = []
        self.tried = 0
        self.reached = 0
        self.engine_ns = 0
        """Time spent encoding goal pictures in the last tick."""
        self._thread = threading.Thread(target=self._ask, name="goals", daemon=True)
        self._thread.start()

    def goal(self) -> Goal | None:
        """The present goal; encodes a new picture when one has come."""
        self.engine_ns = 0
        if self._goal is None:
            try:
                offer = self._offered.get_nowait()
            except queue.Empty:
                return None
            if isinstance(offer, GoalError):
                self._ended.append(self._event("goal_failed", str(offer)))
                self._wanted.release()
                return None
            latent = self._encoder.tokens(offer.small)
            self.engine_ns = self._encoder.engine_ns
            self._goal = Goal(offer.picture.name, latent, self._reached_cost, offer.picture.pixels)
            self._acting_ns = self._dwelt = 0
        return self._goal

    def judge(self, tick: Tick) -> tuple[Event, ...]:
        """Has this tick ended the goal? Only time spent acting counts against it."""
        step = tick.started_ns - self._last_ns if self._last_ns else 0
        self._last_ns = tick.started_ns
        goal = self._goal
        if goal is not None and tick.plan is not None and tick.command is not None:
            self._dwelt = self._dwelt + 1 if tick.plan.reached else 0
            if tick.state is RobotState.ACTING:
                self._acting_ns += step
            if self._dwelt >= self._config.dwell_ticks:
                self._end(goal, True)
            elif self._acting_ns > self._config.give_up_s * NS_PER_S:
                self._end(goal, False)
        events, self._ended = tuple(self._ended), []
        return events

    def close(self) -> None:
        """Stop asking. Safe to call twice."""
        self._closing = True
        self._source.close()
        self._wanted.release()
        self._thread.join(timeout=2.0)

    def _end(self, goal: Goal, reached: bool) -> None:
        seconds = self._acting_ns / NS_PER_S
        self.tried += 1
        self.reached += reached
        if reached:
            self._ended.append(self._event("goal_reached", f"reached {goal.name} after {seconds:.1f} s"))
        else:
            self._ended.append(self._event("goal_given_up", f"gave up {goal.name} after {seconds:.1f} s"))
        self._goal = None
        self._finished = (goal.name, reached)
        self._wanted.release()

    def _event(self, cause: str, detail: str) -> Event:
        return Event("goal", cause, detail, self._clock.now_ns(), self._wall_s())

    def _ask(self) -> None:
        scaler = Scaler(self._encoder.size, self._encoder.intrinsics)
        offer: _Offer | GoalError | None
        while True:
            self._wanted.acquire()
            if self._closing:
                return
            try:
                if (finished := self._finished) is not None:
                    self._finished = None  # said once, also when the next picture turns out to be bad
                    self._source.ended(*finished)
                picture = self._source.next()
                offer = None if picture is None else _offer(picture, scaler)
            except GoalError as error:
                offer = error
            if offer is None or self._closing:
                return
            self._offered.put(offer)
