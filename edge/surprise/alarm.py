"""From p-values to an alarm: a causal rule with on-delay, off-delay and dead-band, so that one odd frame is no alarm.

The rule is k-of-n in time instead of in frames, so that it means the same at 2 and at 30 frames per second: every frame
stands for the time since the frame before it (at most ``max_step_s``, a gap is not evidence). The alarm begins when the
anomalous frames of the last ``window_s`` stand for ``on_s`` or more; at 10 Hz the defaults are the 6-of-10 rule, whose
onset comes 0.5 s after the first anomalous frame. The alarm ends when ``off_s`` have passed in which every frame was
clear of the dead-band. Thresholds are fixed numbers: there is no adaptive part yet that could learn an anomaly away,
and when there is one it must stand still while alarmed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from edge.clock import NS_PER_S


@dataclass(frozen=True, slots=True)
class AlarmRule:
    """alarm_p: a frame with a p-value at or below this is anomalous. clear_factor: while alarmed a frame counts as
    clear only above ``clear_factor * alarm_p`` (dead-band). on_s, window_s, off_s, max_step_s: see the module.
    min_frames: so many anomalous frames at least, however slow the camera. unfamiliar: unfamiliarity alone is enough to begin
    an alarm."""

    alarm_p: float = 1e-3
    clear_factor: float = 5.0
    on_s: float = 0.55
    window_s: float = 1.0
    off_s: float = 2.0
    max_step_s: float = 0.25
    min_frames: int = 3
    unfamiliar: bool = True

    def __post_init__(self) -> None:
        if not (0.0 < self.alarm_p < 1.0 and self.clear_factor >= 1.0 and self.min_frames >= 1):
            raise ValueError("an alarm rule needs 0 < alarm_p < 1, clear_factor >= 1 and min_frames >= 1")
        if not (0.0 <= self.on_s < self.window_s and self.off_s >= 0.0 and self.max_step_s > 0.0):
            raise ValueError("an alarm rule needs 0 <= on_s < window_s, off_s >= 0 and max_step_s > 0")


class Alarm:
    """The debounced alarm. State moves only with the times given to :meth:`update`."""

    def __init__(self, rule: AlarmRule) -> None:
        self.rule = rule
        self.alarmed = False
        self._last_ns: int | None = None
        self._recent: deque[tuple[int, float, bool]] = deque()  # (time, seconds it stands for, anomalous)
        self._clear_s = 0.0

    def update(self, p_value: float, captured_ns: int) -> bool:
        """Take in one frame; True if the alarm begins with it.

        A frame with the time of the last one is the same frame again and changes nothing. Time running backwards (a
        file begins anew) empties the window and keeps the alarm.
        """
        rule = self.rule
        step_s = 0.0
        if self._last_ns is not None:
            if captured_ns == self._last_ns:
                return False
            if captured_ns < self._last_ns:
                self._recent.clear()
                self._clear_s = 0.0
            else:
                step_s = min((captured_ns - self._last_ns) / NS_PER_S, rule.max_step_s)
        self._last_ns = captured_ns
        self._recent.append((captured_ns, step_s, p_value <= rule.alarm_p))
        keep = 2 * rule.min_frames - 1  # a slow camera is judged by its last few frames, however long they took
        while len(self._recent) > keep and captured_ns - self._recent[0][0] >= rule.window_s * NS_PER_S:
            self._recent.popleft()
        self._clear_s = self._clear_s + step_s if p_value > rule.clear_factor * rule.alarm_p else 0.0

        if self.alarmed:
            if self._clear_s >= rule.off_s:
                self.alarmed = False
                self._recent.clear()
            return False
        anomalous = [seconds for _, seconds, odd in self._recent if odd]
        self.alarmed = len(anomalous) >= rule.min_frames and sum(anomalous) >= rule.on_s
        return self.alarmed
