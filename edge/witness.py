"""Remembers what was to be seen before, at and after every alarm of a watched camera."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np

from edge.clock import NS_PER_S
from edge.memory import Episode, Memory
from edge.memory.episode import pooled
from edge.messages import CameraFault, Event, Floats, Pixels, Tick
from edge.thumbnails import Thumbnails
from edge.watcher import THUMBNAIL_WIDTH

EVERY_NS = NS_PER_S // 2
PICTURES = 4
"""So many before and so many after, half a second apart."""

_FAULTS = {fault.value for fault in CameraFault}


class Witness:
    """Writes one episode per alarm; the pictures from after it are added to the same episode when they were seen."""

    def __init__(self, memory: Memory, dim: int) -> None:
        self._memory = memory
        self._thumbnails = Thumbnails(THUMBNAIL_WIDTH)
        self._latent: Floats = np.zeros(dim, dtype=np.float32)
        self._before: deque[bytes] = deque(maxlen=PICTURES)
        self._unfinished: list[Episode] = []
        self._taken_ns: int | None = None

    def observe(self, tick: Tick) -> None:
        """Look at a tick of the watcher; touches no disk."""
        if tick.belief is not None:
            self._latent = pooled(tick.belief.latent)
        for event in tick.events:
            if event.kind == "alarm":
                self._remember(event, 1.0 if tick.assessment is None else tick.assessment.p_value)
        if tick.frame is not None and self._due(tick.frame.captured_ns):
            self._take(tick.frame.pixels)

    def finish(self) -> None:
        """The watch is over: what has no pictures from after it stays without."""
        self._unfinished.clear()

    def _remember(self, event: Event, p_value: float) -> None:
        kind = "fault" if event.cause in _FAULTS else "alarm"
        episode = Episode(
            kind, event.cause, event.detail, event.at_ns, event.wall_s, self._latent,
            p_value=p_value, thumbnail=event.thumbnail, before=tuple(self._before),
        )  # fmt: skip
        self._unfinished.append(replace(episode, id=self._memory.remember(episode)))

    def _due(self, at_ns: int) -> bool:
        if self._taken_ns is not None and 0 <= at_ns - self._taken_ns < EVERY_NS:
            return False
        self._taken_ns = at_ns
        return True

    def _take(self, pixels: Pixels) -> None:
        picture = self._thumbnails.jpeg(pixels)
        self._before.append(picture)
        still: list[Episode] = []
        for episode in self._unfinished:
            grown = replace(episode, after=(*episode.after, picture))
            self._memory.remember(grown)
            if len(grown.after) < PICTURES:
                still.append(grown)
        self._unfinished = still
