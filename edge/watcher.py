"""One look at a time of a fixed camera: from a frame and the camera's health to a tick with its events.

Camera faults win: a picture that cannot be trusted says nothing about the world, so while a fault lasts nothing is
encoded, and when it is over the belief begins anew.
"""

from __future__ import annotations

from collections.abc import Callable

from edge.clock import Clock
from edge.messages import Assessment, Belief, CameraFault, Event, Floats, Frame, Pixels, Tick
from edge.perception import Perception
from edge.surprise import Surprise
from edge.thumbnails import Thumbnails

THUMBNAIL_WIDTH = 320

_SAID = {
    "no_frames": "the camera sends no pictures",
    "late": "pictures arrive late",
    "frozen": "the picture is frozen: the camera repeats one picture",
    "black": "the picture is black: the camera sends no signal",
    "white": "the picture is white: the camera is blinded",
    "covered": "the lens is covered",
    "resized": "the camera changed its picture size",
    "unfamiliar": "something is there that was not seen while learning what is normal",
    "unexpected": "something has appeared that did not come from anywhere near",
}
_CLEAR = {
    "unfamiliar": "everything looks familiar again",
    "unexpected": "nothing else has appeared since",
}


class Watcher:
    """Not thread-safe. wall_s: seconds since the epoch, for labels."""

    def __init__(
        self, perception: Perception, surprise: Surprise, clock: Clock, wall_s: Callable[[], float]
    ) -> None:
        self._perception = perception
        self._surprise = surprise
        self._clock = clock
        self._wall_s = wall_s
        self._thumbnails = Thumbnails(THUMBNAIL_WIDTH)
        self._index = 0
        self._fault = ""
        self._alarm = ""
        self._belief: Belief | None = None
        self._picture: Pixels | None = None

    def look(self, frame: Frame | None, faults: tuple[CameraFault, ...], now_ns: int) -> Tick:
        """Take in the newest frame, or None if there is none, with what the camera's health says.

        now_ns: time of the events, that of the recording if it is played faster. The tick's assessment is None where the
        frame lies between two steps of the model. Raises EngineError.
        """
        started = self._clock.now_ns()
        self._index += 1
        tick = Tick(self._index, started, frame=frame, faults=faults)
        if frame is not None:
            self._picture = frame.pixels
        events = self._fault_events(faults, now_ns)
        if faults:
            tick.assessment = self._faulty(faults[0], onset=bool(events))
        elif frame is not None:
            belief = self._perception.see(frame)
            if belief is not None:
                self._belief = belief
                judged = self._clock.now_ns()
                tick.belief = belief
                tick.assessment = self._surprise.assess(belief)
                events += self._alarm_events(tick.assessment, now_ns)
                tick.timings_ns = {**self._perception.timings_ns, "surprise": self._clock.now_ns() - judged}
                tick.engine_ns = sum(self._perception.timings_ns.values())
        tick.events = tuple(events)
        tick.total_ns = self._clock.now_ns() - started
        return tick

    def _faulty(self, fault: CameraFault, onset: bool) -> Assessment:
        return Assessment(0.0, 0.0, 1.0, self._surprise.rule.alarm_p, True, onset, fault.value)

    def _fault_events(self, faults: tuple[CameraFault, ...], now_ns: int) -> list[Event]:
        fault = faults[0].value if faults else ""
        before, self._fault = self._fault, fault
        if fault == before:
            return []
        if fault:
            return [self._event("alarm", fault, _SAID[fault], now_ns)]
        self._perception.forget()
        return [self._event("clear", before, f"the camera is well again after: {_SAID[before]}", now_ns)]

    def _alarm_events(self, assessment: Assessment, now_ns: int) -> list[Event]:
        if assessment.onset:
            self._alarm = assessment.cause
            place = f", {where(assessment.heat)}" if assessment.heat is not None else ""
            detail = f"{_SAID[assessment.cause]}{place} (p = {assessment.p_value:.2g})"
            return [self._event("alarm", assessment.cause, detail, now_ns)]
        if self._alarm and not assessment.alarmed:
            cause, self._alarm = self._alarm, ""
            return [self._event("clear", cause, _CLEAR[cause], now_ns)]
        return []

    def _event(self, kind: str, cause: str, detail: str, now_ns: int) -> Event:
        picture = b"" if self._picture is None else self._thumbnails.jpeg(self._picture)
        return Event(kind, cause, detail, now_ns, self._wall_s(), picture)


def where(heat: Floats) -> str:
    """In which ninth of the picture the hottest patch lies. heat: float32 (gh, gw)."""
    row, column = divmod(int(heat.argmax()), heat.shape[1])
    down = ("upper", "middle", "lower")[row * 3 // heat.shape[0]]
    across = ("left", "centre", "right")[column * 3 // heat.shape[1]]
    return "in the middle of the picture" if (down, across) == ("middle", "centre") else f"{down} {across}"
