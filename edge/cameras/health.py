"""Names what is wrong with a camera from its pictures and their times alone. Pure: it moves only with what it is given.

Every number is here. Times are in seconds; a picture stands for the time since the one before it (at most
``MAX_STEP_S``), so that a rule means the same at 2 and at 60 pictures per second.

| fault     | begins when                                                                  | ends when              |
| --------- | ---------------------------------------------------------------------------- | ---------------------- |
| no_frames | nothing new for 0.8 s, or 1.8 usual intervals if that is longer              | a new picture          |
| black     | for 0.1 s: nothing above 24 and no two samples more than 4 apart (no signal) | 0.3 s without          |
| white     | for 0.1 s: 98 % of the samples at 250 or more                                | 0.3 s without          |
| covered   | for 0.3 s: no sharp detail, little structure (below) and not black or white  | 0.3 s without          |
| frozen    | 2 or more exact copies of a picture over 0.6 s (and not black or white)      | a different picture    |
| late      | a picture arrives 0.3 s, or 1.5 usual intervals, after it was captured       | 0.3 s of punctual ones |
| resized   | the source delivers another size than it began with                          | the first size is back |

Covered: a lens behind a hand or tape sees light but nothing sharp. Differences between neighbouring samples of a
scene have heavy tails (edges among flat parts: kurtosis 10 to 140 in the footage measured), those of a blurred cover
are sensor noise alone (Gaussian: 3, whatever its strength), and neither changes when all light grows or fades. A
picture is covered if its kurtosis falls below 4 where more than 8 is usual, its structure (standard deviation of a 12
x 16 grid of block means) below 0.6 of the usual, and the grid no longer looks like the usual one (correlation below
0.6) or has, for its light, under 0.3 of the usual structure; or if its kurtosis falls so and half of its light is
gone. The usual is learnt from pictures without suspicion over 30 s. Before anything is learnt, dark pictures without
detail count.
"""

from __future__ import annotations

from collections import deque
from itertools import compress

import cv2
import numpy as np

from edge.clock import NS_PER_S
from edge.messages import CameraFault, Floats, Pixels

NO_FRAMES_S = 0.8
NO_FRAMES_INTERVALS = 1.8
LATE_S = 0.3
LATE_INTERVALS = 1.5
LATE_OFF_S = 0.3
FROZEN_S = 0.6
FROZEN_COPIES = 2
BLACK_LEVEL = 24
BLACK_SPREAD = 4
WHITE_LEVEL = 250
WHITE_SHARE = 0.98
BLANK_ON_S = 0.1
COVERED_ON_S = 0.3
OFF_S = 0.3
COVERED_DETAIL = 4.0
USUAL_DETAIL = 8.0
COVERED_STRUCTURE = 0.6
COVERED_LIKENESS = 0.6
COVERED_RELATIVE = 0.3
COVERED_LIGHT = 0.5
DARK_START_LEVEL = 60.0
DARK_START_STRUCTURE = 2.5
LEARN_S = 30.0
LEARN_FRAMES = 5
LEARN_EVERY_S = 0.5
MAX_STEP_S = 0.5

SAMPLES = (48, 64)
GRID = (12, 16)
MOST_DETAIL = 30.0
FAINT = 1.0
LIGHT_FLOOR = 4.0
INTERVALS_KEPT = 9

WORST_FIRST = (
    CameraFault.NO_FRAMES,
    CameraFault.BLACK,
    CameraFault.WHITE,
    CameraFault.COVERED,
    CameraFault.FROZEN,
    CameraFault.LATE,
    CameraFault.RESIZED,
)


class CameraHealth:
    """The health of one camera. Give it every new picture and every look that found none."""

    def __init__(self) -> None:
        self._since_ns: int | None = None  # the last arrival, or the first look
        self._captured_ns: int | None = None
        self._intervals: deque[int] = deque(maxlen=INTERVALS_KEPT)
        self._size: tuple[int, int] | None = None
        self._usual = _Usual()
        self._black = _Debounced(BLANK_ON_S, OFF_S)
        self._white = _Debounced(BLANK_ON_S, OFF_S)
        self._covered = _Debounced(COVERED_ON_S, OFF_S)
        self._late = _Debounced(0.0, LATE_OFF_S)
        self._still = _Still()
        self._silent = False
        self._resized = False

    @property
    def faults(self) -> tuple[CameraFault, ...]:
        """Worst first; empty when healthy."""
        blank = self._black.on or self._white.on
        present = (
            self._silent,
            self._black.on,
            self._white.on,
            self._covered.on,
            self._still.on and not blank,
            self._late.on,
            self._resized,
        )
        return tuple(compress(WORST_FIRST, present)) if any(present) else ()

    def silence(self, now_ns: int) -> tuple[CameraFault, ...]:
        """A look at the camera that found no new picture."""
        if self._since_ns is None:
            self._since_ns = now_ns
        limit_ns = max(NO_FRAMES_S * NS_PER_S, NO_FRAMES_INTERVALS * self._usual_interval_ns())
        self._silent = now_ns - self._since_ns > limit_ns
        return self.faults

    def frame(
        self, pixels: Pixels, captured_ns: int, now_ns: int, source_size: tuple[int, int] | None = None
    ) -> tuple[CameraFault, ...]:
        """A new picture, uint8 (H, W, 3) and not written to afterwards, taken over at ``now_ns``. source_size: height
        and width as the source sent it, if it was scaled since."""
        age_ns = now_ns - captured_ns
        late = age_ns > max(LATE_S * NS_PER_S, LATE_INTERVALS * self._usual_interval_ns())
        step_s = 0.0
        if self._captured_ns is not None and captured_ns > self._captured_ns:
            self._intervals.append(captured_ns - self._captured_ns)
            step_s = min((captured_ns - self._captured_ns) / NS_PER_S, MAX_STEP_S)
        self._captured_ns = captured_ns
        self._since_ns = now_ns
        self._silent = False

        size = source_size or (pixels.shape[0], pixels.shape[1])
        self._size = self._size or size
        self._resized = size != self._size

        samples = _samples(pixels)
        grey = samples[..., 1].astype(np.float32)
        high = int(samples.max())
        black = high <= BLACK_LEVEL and high - int(samples.min()) <= BLACK_SPREAD
        white = _is_white(samples, grey)
        covered = not black and not white and self._usual.hidden_in(grey)
        self._late.update(late, step_s)
        self._black.update(black, step_s)
        self._white.update(white, step_s)
        self._covered.update(covered, step_s)
        self._still.update(pixels, samples, step_s)
        if not (black or white or covered or self._still.on):
            self._usual.learn(grey, step_s)
        return self.faults

    def _usual_interval_ns(self) -> int:
        return sorted(self._intervals)[len(self._intervals) // 2] if self._intervals else 0


class _Debounced:
    """A condition that must last to count, and must stay away to be over."""

    def __init__(self, on_s: float, off_s: float) -> None:
        self.on = False
        self._on_s = on_s
        self._off_s = off_s
        self._lasted_s = 0.0
        self._last = False

    def update(self, condition: bool, step_s: float) -> None:
        self._lasted_s = self._lasted_s + step_s if condition == self._last else step_s
        self._last = condition
        if condition != self.on and self._lasted_s >= (self._on_s if condition else self._off_s) - 1e-9:
            self.on = condition


class _Still:
    """Exact copies of one picture. Sensor noise makes every picture of a working camera different."""

    def __init__(self) -> None:
        self.on = False
        self._pixels: Pixels | None = None
        self._sampled = b""
        self._copies = 0
        self._still_s = 0.0

    def update(self, pixels: Pixels, samples: Pixels, step_s: float) -> None:
        before, sampled_before = self._pixels, self._sampled
        self._pixels, self._sampled = pixels, samples.tobytes()
        if (
            before is not None
            and before.shape == pixels.shape
            and self._sampled == sampled_before
            and _equal(pixels, before)
        ):
            self._copies += 1
            self._still_s += step_s
        else:
            self._copies = 0
            self._still_s = 0.0
        self.on = self._copies >= FROZEN_COPIES and self._still_s >= FROZEN_S - 1e-9


class _Usual:
    """What the camera normally shows: the detail of its pictures, and a grid of their brightness."""

    def __init__(self) -> None:
        self._frames = 0
        self._unlearnt_s = 0.0
        self._detail = 0.0
        self._light = self._structure = 0.0
        self._pattern: Floats = np.zeros(GRID[0] * GRID[1], np.float32)

    def hidden_in(self, grey: Floats) -> bool:
        """Nothing of the usual can be seen. grey: float32 (h, w)."""
        detail = _detail(grey)
        if detail >= COVERED_DETAIL:
            return False
        light, structure, pattern = _grid(grey)
        if self._frames < LEARN_FRAMES:
            return light < DARK_START_LEVEL and structure < DARK_START_STRUCTURE
        if self._detail <= USUAL_DETAIL:
            return False
        if light < COVERED_LIGHT * self._light:  # a glow from one side may have any structure
            return True
        if structure >= COVERED_STRUCTURE * self._structure:
            return False
        likeness = float(pattern @ self._pattern) / max(float(np.sqrt(self._pattern @ self._pattern)), 1e-6)
        usual_relative = self._structure / (self._light + LIGHT_FLOOR)
        relative = structure / (light + LIGHT_FLOOR)
        return likeness < COVERED_LIKENESS or relative < COVERED_RELATIVE * usual_relative

    def learn(self, grey: Floats, step_s: float) -> None:
        """Once in a while, for it costs as much as all the rest."""
        self._unlearnt_s += step_s
        if self._frames >= LEARN_FRAMES and self._unlearnt_s < LEARN_EVERY_S:
            return
        self._frames += 1
        share = max(1.0 / self._frames, min(1.0, self._unlearnt_s / LEARN_S))
        self._unlearnt_s = 0.0
        light, structure, pattern = _grid(grey)
        self._detail += share * (min(_detail(grey), MOST_DETAIL) - self._detail)
        self._light += share * (light - self._light)
        self._structure += share * (structure - self._structure)
        self._pattern += np.float32(share) * (pattern - self._pattern)


def _detail(grey: Floats) -> float:
    """Kurtosis of the differences between diagonal neighbours; FAINT keeps rounding from counting as detail."""
    step = (grey[1:, 1:] - grey[:-1, :-1]).ravel()
    power = step * step
    count = max(1, power.size)
    return float(power @ power) / count / (float(step @ step) / count + FAINT) ** 2


def _grid(grey: Floats) -> tuple[float, float, Floats]:
    """Mean and deviation of a grid of block means, and the grid itself, float32 (12 * 16,), with mean 0 and norm 1."""
    blocks = cv2.resize(grey, GRID[::-1], interpolation=cv2.INTER_AREA).ravel()
    light = float(blocks.mean())
    pattern: Floats = np.subtract(blocks, light, dtype=np.float32)
    norm = float(np.sqrt(pattern @ pattern))
    np.divide(pattern, max(norm, 1e-6), out=pattern)
    return light, norm / blocks.size**0.5, pattern


def _is_white(samples: Pixels, grey: Floats) -> bool:
    # The mean is cheap and nearly always the end of it.
    if float(np.add.reduce(grey, axis=None)) < WHITE_SHARE * WHITE_LEVEL * grey.size:
        return False
    return int(np.count_nonzero(samples >= WHITE_LEVEL)) >= WHITE_SHARE * samples.size


def _samples(pixels: Pixels) -> Pixels:
    """About 48 x 64 pixels of the picture, uint8 (h, w, 3)."""
    height, width = pixels.shape[:2]
    return np.ascontiguousarray(pixels[:: max(1, height // SAMPLES[0]), :: max(1, width // SAMPLES[1])])


def _equal(one: Pixels, other: Pixels) -> bool:
    """Eight bytes at a time where that is possible."""
    if one.flags.c_contiguous and other.flags.c_contiguous and one.size % 8 == 0:
        return bool(np.array_equal(one.reshape(-1).view(np.uint64), other.reshape(-1).view(np.uint64)))
    return bool(np.array_equal(one, other))
