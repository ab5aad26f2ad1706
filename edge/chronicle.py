"""Turns ticks into what is told and what is kept: events for people, episodes, concepts and belief for the memory.

The one small picture of an event is encoded at once, because people see it at once; those before and after it are encoded
in a thread of their own.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from edge.clock import NS_PER_S, Clock
from edge.memory import BeliefCheckpoint, Concepts, Episode, Memory, MemoryUnavailable, pooled
from edge.messages import Event, Floats, MemoryCounts, Pixels, RobotState, Tick
from edge.thumbnails import Thumbnails

log = logging.getLogger(__name__)

THUMBNAIL_WIDTH = 160
KEPT_BEFORE = 4
KEPT_AFTER = 4
PICTURE_EVERY_NS = NS_PER_S // 2
BELIEF_EVERY_NS = NS_PER_S
LEARN_EVERY_NS = NS_PER_S // 2
"""Neighbouring frames teach the concepts nothing new."""
NOVEL_EVERY_NS = 10 * NS_PER_S
CONCEPTS_EVERY_NS = 30 * NS_PER_S
WAITING = 32
"""Episodes whose pictures are not encoded yet; while so many wait, new ones are dropped."""


@dataclass(slots=True)
class _Moment:
    """An episode on its way to the ledger: once as soon as it happens, and once more, under the same id, with the
    pictures that came after it."""

    episode: Episode
    before: tuple[Pixels, ...]
    after: list[Pixels] = field(default_factory=list)
    id: int = 0


class Chronicle:
    """memory: where episodes go. concepts: learned from calm ticks where ``learning``; the surprise stage judges by the same
    ones. camera: fingerprint under which the belief is kept. Used by the loop's thread."""

    def __init__(
        self,
        memory: Memory,
        concepts: Concepts,
        clock: Clock,
        *,
        camera: str,
        learning: bool,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._memory = memory
        self._concepts = concepts
        self._clock = clock
        self._camera = camera
        self._learning = learning
        self._wall_s = wall_s
        self._recent: deque[Pixels] = deque(maxlen=KEPT_BEFORE)
        self._open: list[_Moment] = []
        self._picture_ns = self._belief_ns = self._concepts_ns = clock.now_ns()
        self._novel_ns = self._learnt_ns = 0
        self._thumbnails = Thumbnails(THUMBNAIL_WIDTH)
        self._state: RobotState | None = None
        self._cause = ""
        self._work: queue.Queue[_Moment | None] = queue.Queue(maxsize=WAITING)
        self.dropped = 0
        """Episodes that were never written because their pictures could not be encoded in time."""
        self._thread = threading.Thread(target=self._encode, name="chronicle", daemon=True)
        self._thread.start()

    def note(self, tick: Tick, others: tuple[Event, ...] = ()) -> tuple[Event, ...]:
        """Take in a tick, and what other stages say happened in it. Returns all of it with pictures. Blocks on nothing."""
        now = tick.started_ns
        events = others + self._changes(tick)
        if events and tick.frame is not None:
            picture = self._thumbnails.jpeg(tick.frame.pixels)
            events = tuple(replace(event, thumbnail=picture) for event in events)
        for event in events:
            self._keep(event, tick)
        if tick.belief is not None and now - self._belief_ns >= BELIEF_EVERY_NS and not tick.belief.coasted:
            self._belief_ns = now
            self._memory.save_belief(BeliefCheckpoint.of(tick.belief, self._camera))
        self._learn(tick)
        if tick.frame is not None and now - self._picture_ns >= PICTURE_EVERY_NS:
            self._picture_ns = now
            self._take_picture(tick.frame.pixels)
        return events

    def counts(self) -> MemoryCounts:
        """What the memory holds, for the page."""
        return self._memory.counts()

    def close(self) -> None:
        """Write what is still open and the concepts; waits for the encoder at most 2 s. Safe to call twice."""
        if not self._thread.is_alive():
            return
        for moment in self._open:
            self._hand_over(moment)
        self._open = []
        self._work.put(None)
        self._thread.join(timeout=2.0)
        if self._learning:
            self._memory.save_concepts(self._concepts)

    # -- what changed --------------------------------------------------------------------------------------------

    def _changes(self, tick: Tick) -> tuple[Event, ...]:
        events = []
        if tick.state is not self._state:
            if self._state is not None:
                events.append(self._event("state", tick.state.value, tick.reason))
            self._state = tick.state
        seen = tick.assessment
        cause = "" if seen is None else seen.cause
        if seen is not None and seen.alarmed and seen.onset:
            events.append(self._event("alarm", cause, _said(cause, seen.p_value)))
        elif self._cause and not cause:
            events.append(self._event("clear", self._cause, f"{self._cause.replace('_', ' ')} is over"))
        self._cause = cause
        return tuple(events)

    def _event(self, kind: str, cause: str, detail: str) -> Event:
        return Event(kind, cause, detail, self._clock.now_ns(), self._wall_s())

    # -- what is kept --------------------------------------------------------------------------------------------

    def _keep(self, event: Event, tick: Tick, kind: str = "") -> None:
        if tick.belief is None or event.kind == "clear":
            return
        faulty = event.kind == "alarm" and bool(tick.faults)
        episode = Episode(
            kind or ("fault" if faulty else event.kind),
            event.cause,
            event.detail,
            event.at_ns,
            event.wall_s,
            pooled(tick.belief.latent),
            _no_action() if tick.command is None else tick.command.action,
            1.0 if tick.assessment is None else tick.assessment.p_value,
            event.thumbnail,
        )
        moment = _Moment(episode, tuple(self._recent))
        self._hand_over(moment)
        self._open.append(moment)

    def _take_picture(self, pixels: Pixels) -> None:
        self._recent.append(pixels)
        for moment in self._open:
            moment.after.append(pixels)
        done = [moment for moment in self._open if len(moment.after) >= KEPT_AFTER]
        self._open = [moment for moment in self._open if len(moment.after) < KEPT_AFTER]
        for moment in done:
            self._hand_over(moment)

    def _learn(self, tick: Tick) -> None:
        seen, belief = tick.assessment, tick.belief
        calm = seen is not None and not seen.alarmed and not tick.faults
        if not self._learning or not calm or belief is None or belief.coasted:
            return
        if self._learnt_ns and tick.started_ns - self._learnt_ns < LEARN_EVERY_NS:
            return
        self._learnt_ns = tick.started_ns
        added = self._concepts.learn(belief.latent, self._wall_s())
        if added and len(self._concepts) > 1 and tick.started_ns - self._novel_ns >= NOVEL_EVERY_NS:
            self._novel_ns = tick.started_ns
            self._keep(self._event("novel", "", "seen for the first time"), tick, "novel")
        if tick.started_ns - self._concepts_ns >= CONCEPTS_EVERY_NS:
            self._concepts_ns = tick.started_ns
            self._memory.save_concepts(self._concepts)

    def _hand_over(self, moment: _Moment) -> None:
        try:
            self._work.put_nowait(moment)
        except queue.Full:
            self.dropped += 1

    # -- the thread ----------------------------------------------------------------------------------------------

    def _encode(self) -> None:
        thumbnail = Thumbnails(THUMBNAIL_WIDTH).jpeg
        while (moment := self._work.get()) is not None:
            before, after = (tuple(map(thumbnail, pictures)) for pictures in (moment.before, tuple(moment.after)))
            episode = replace(moment.episode, before=before, after=after, id=moment.id)
            try:
                moment.id = self._memory.remember(episode)
            except MemoryUnavailable as error:
                log.info("an episode could not be remembered: %s", error)


def _said(cause: str, p_value: float) -> str:
    if cause in ("unfamiliar", "unexpected"):
        return f"something {cause} is in the picture (p = {p_value:.1g})"
    return f"the camera is {cause.replace('_', ' ')}"


def _no_action() -> Floats:
    return np.zeros(0, dtype=np.float32)
