"""Training footage for the camera model: real recordings whose licence lets weights trained on them ship.

Windows are cut at random places and scales out of short runs of frames. What a fixed camera cannot know beforehand
(noise, flicker of the light, a tremor of the mount) is drawn anew for every frame, so that encoding it never helps to
predict; what makes one camera differ from another (colours, contrast, mirror image) is drawn once per window. Cut-outs of
other recordings are moved across the window, because the footage alone shows little motion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import UserError

Pixels = NDArray[np.uint8]
Colours = NDArray[np.float32]

TRAINED_SHARE = 0.35
"""So much of each fixed-camera clip, from its start, is trained on. Settings are chosen on the footage between this and
the clip's middle, figures are published for the second half."""

FIXED_CAMERAS = ("bottle-detection.mp4", "car-detection.mp4", "one-by-one-person-detection.mp4")

WINDOW = 96
MOST_HEIGHT = 480


@dataclass(frozen=True)
class Clip:
    """One run of frames. frames: uint8 (n, h, w, 3) BGR. fps: frames per second, 0 for a single picture."""

    name: str
    frames: Pixels
    fps: float


@dataclass(frozen=True)
class Source:
    """One folder of footage. attribution: what the licence asks to be said, written into the bundle. weight: how
    often it is drawn from."""

    folder: str
    licence: str
    attribution: str
    weight: float
    read: Callable[[Path], Iterator[Clip]]


def read_video(path: Path, first: float = 0.0, last: float = 1.0, fps: float = 0.0) -> Clip:
    """The part of a video between two shares of its length. fps: the true rate where the container lies.

    Raises UserError if nothing can be decoded.
    """
    capture = cv2.VideoCapture(str(path))
    rate = fps or capture.get(cv2.CAP_PROP_FPS)
    frames: list[Pixels] = []
    while True:
        ok, frame = capture.read()
        if not ok:
            break
        frames.append(_at_most(np.asarray(frame, np.uint8)))
    capture.release()
    if not frames:
        raise UserError(f"the training video {path} gives no frames: name the folder of the footage with --data")
    return Clip(path.name, np.stack(frames[round(first * len(frames)) : round(last * len(frames))]), rate)


def _at_most(frame: Pixels) -> Pixels:
    height, width = frame.shape[:2]
    if height <= MOST_HEIGHT:
        return frame
    size = (round(width * MOST_HEIGHT / height), MOST_HEIGHT)
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)


def _picture(path: Path) -> Pixels:
    frame = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if frame is None:
        raise UserError(f"the training picture {path} cannot be read: copy the footage again")
    return _at_most(np.asarray(frame, np.uint8))


def _intel(folder: Path) -> Iterator[Clip]:
    for name in FIXED_CAMERAS:
        yield read_video(folder / name, last=TRAINED_SHARE)
    for name in ("bolt-multi-size-detection.gif", "worker-zone-detection.gif"):
        yield read_video(folder / name, fps=10.0)


def _numbered_pictures(folder: Path, pattern: str) -> Pixels:
    paths = sorted(folder.glob(pattern), key=lambda path: [int(part) for part in path.stem.split("_") if part.isdecimal()])
    return np.stack([_picture(path) for path in paths])


def _donkeycar(folder: Path) -> Iterator[Clip]:
    # The tub's time stamps are not real time; 20 Hz is the recorder's default.
    yield Clip("tub", _numbered_pictures(folder / "tub" / "images", "*_cam_image_array_.jpg"), 20.0)


def _bridge(folder: Path) -> Iterator[Clip]:
    for episode in sorted((folder / "episodes").iterdir()):
        yield Clip(episode.name, _numbered_pictures(episode, "image_0_*.jpg"), 5.0)


def _stills(folder: Path) -> Iterator[Clip]:
    for path in sorted((folder / "calibration_wide").glob("*.jpg")):
        yield Clip(path.name, _picture(path)[None], 0.0)


_OCTO = "github.com/octo-models/octo debug dataset, copyright 2023 Robotic AI & Learning Lab Berkeley, MIT"
_UDACITY = "github.com/udacity/CarND-Camera-Calibration, copyright 2016-2018 Udacity, Inc., MIT"
SOURCES = (
    Source(
        "intel_sample_videos", "CC BY 4.0", "github.com/intel-iot-devkit/sample-videos, by Intel Corporation, CC BY 4.0", 6, _intel
    ),
    Source("donkeycar_tub", "MIT", "github.com/autorope/donkeycar test tub, copyright 2017 Will Roscoe, MIT", 1, _donkeycar),
    Source("octo_bridge", "MIT", _OCTO, 1, _bridge),
    Source("calib_udacity", "MIT", _UDACITY, 1.5, _stills),
)


@dataclass(frozen=True)
class Footage:
    """Everything to draw from. weights: float64, one per clip, sum 1."""

    clips: tuple[Clip, ...]
    weights: NDArray[np.float64]


def load(data: Path) -> Footage:
    """Read all sources under ``data``. Raises UserError if one is missing."""
    clips: list[Clip] = []
    weights: list[float] = []
    for source in SOURCES:
        if not (data / source.folder).is_dir():
            raise UserError(f"the training footage {data / source.folder} is missing: name its parent with --data")
        found = list(source.read(data / source.folder))
        lengths = np.sqrt([len(clip.frames) for clip in found])
        clips += found
        weights += list(source.weight * lengths / lengths.sum())
        print(f"{source.folder}: {len(found)} clips, {sum(len(clip.frames) for clip in found)} frames", flush=True)
    return Footage(tuple(clips), np.array(weights) / sum(weights))


class Windows:
    """Draws training windows, endlessly and reproducibly. frames: how many per window. step_s: seconds between them."""

    def __init__(self, footage: Footage, frames: int, step_s: float, seed: int | list[int]) -> None:
        self._footage = footage
        self._frames = frames
        self._step_s = step_s
        self._rng = np.random.default_rng(seed)
        self._noise = self._rng.standard_normal(1 << 22).astype(np.float32)

    def batch(self, size: int) -> Pixels:
        """uint8 (size, frames, WINDOW, WINDOW, 3)."""
        return np.stack([self.window() for _ in range(size)])

    def window(self) -> Pixels:
        """One window, uint8 (frames, WINDOW, WINDOW, 3)."""
        rng = self._rng
        scene = self._run(self._draw())
        while scene[0, ::4, ::4].std() < 10.0 and rng.random() < 0.7:  # bare walls are most of all footage
            scene = self._run(self._draw())
        colours = scene.astype(np.float32)
        if rng.random() < 0.7:
            for _ in range(int(rng.integers(1, 3))):
                self._move_cutout_across(colours)
        return self._seen_by_some_camera(colours)

    def _draw(self) -> Clip:
        return self._footage.clips[int(self._rng.choice(len(self._footage.weights), p=self._footage.weights))]

    def _run(self, clip: Clip) -> Pixels:
        """The same window of consecutive frames, each shaken by up to 1.5 pixels."""
        rng = self._rng
        stride = clip.fps * self._step_s * float(np.exp(rng.uniform(-0.4, 0.4)))
        spots = np.rint(np.arange(self._frames) * stride).astype(int)
        first = int(rng.integers(0, max(1, len(clip.frames) - spots[-1])))
        spots = np.minimum(first + spots, len(clip.frames) - 1)
        height, width = clip.frames.shape[1:3]
        tall = min(float(height), max(40.0, height * float(rng.uniform(0.25, 0.75))))
        wide = min(float(width), tall * float(np.exp(rng.uniform(-0.2, 0.45))))
        top, left = rng.uniform(0.0, height - tall), rng.uniform(0.0, width - wide)
        drift = rng.uniform(-1.0, 1.0, 2) * (2.0 if clip.fps == 0.0 and rng.random() < 0.5 else 0.0)
        run = np.empty((self._frames, WINDOW, WINDOW, 3), np.uint8)
        scale_x, scale_y = wide / WINDOW, tall / WINDOW
        for index, spot in enumerate(spots):
            shake = rng.uniform(-1.5, 1.5, 2) + drift * index
            y, x = top + shake[1] * scale_y, left + shake[0] * scale_x
            frame = clip.frames[spot]
            if max(scale_x, scale_y) >= 1.6:
                run[index] = _shrunk(frame, y, x, tall, wide)
            else:
                into = np.array([[scale_x, 0.0, x], [0.0, scale_y, y]], np.float32)
                flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
                cv2.warpAffine(frame, into, (WINDOW, WINDOW), run[index], flags, cv2.BORDER_REPLICATE)
        return run[:, :, ::-1] if rng.random() < 0.5 else run

    def _move_cutout_across(self, scene: Colours) -> None:
        """Paste a blob of another recording that moves steadily through all frames, in place."""
        rng = self._rng
        side = int(rng.integers(12, 64))
        clip = self._draw()
        picture = clip.frames[int(rng.integers(len(clip.frames)))]
        most = min(picture.shape[:2]) - 1
        cut = min(most, int(side * float(rng.uniform(0.7, 3.0))))
        top, left = (int(rng.integers(0, extent - cut)) for extent in picture.shape[:2])
        blob = cv2.resize(picture[top : top + cut, left : left + cut], (side, side), interpolation=cv2.INTER_AREA)
        mask = np.zeros((side, side), np.float32)
        angles = np.linspace(0.0, 2.0 * np.pi, 9)[:-1]
        reach = 0.5 * side * rng.uniform(0.55, 1.0, 8)
        corners = 0.5 * side + np.column_stack([np.cos(angles), np.sin(angles)]) * reach[:, None]
        cv2.fillPoly(mask, [np.rint(corners).astype(np.int32)], 1.0)
        soft = cv2.GaussianBlur(mask, (0, 0), 0.8)
        start = rng.uniform(-0.3 * side, WINDOW - 0.7 * side, 2)
        speed = rng.normal(0.0, 4.0, 2)
        for index, frame in enumerate(scene):
            x, y = start + speed * index
            into = np.array([[1.0, 0.0, x], [0.0, 1.0, y]], np.float32)
            alpha = cv2.warpAffine(soft, into, (WINDOW, WINDOW))[..., None]
            colours = cv2.warpAffine(blob, into, (WINDOW, WINDOW), borderMode=cv2.BORDER_REPLICATE)
            frame += alpha * (colours - frame)

    def _seen_by_some_camera(self, scene: Colours) -> Pixels:
        rng = self._rng
        if rng.random() < 0.25:
            scene[:] = scene @ np.array([0.114, 0.587, 0.299], np.float32)[:, None]
        contrast = float(np.exp(rng.uniform(-0.4, 0.4)))
        tint = np.exp(rng.uniform(-0.2, 0.2, 3)).astype(np.float32)
        scene = (scene - 127.0) * contrast * tint + 127.0 + np.float32(rng.uniform(-25.0, 25.0))
        if rng.random() < 0.3:
            sigma = float(rng.uniform(0.4, 1.1))
            scene = np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in scene])
        grain = float(rng.uniform(0.0, 5.0))
        light = np.exp(rng.uniform(-0.25, 0.25, (self._frames, 1, 1, 1))).astype(np.float32)
        flicker = np.exp(rng.uniform(-0.03, 0.03, (self._frames, 1, 1, 3))).astype(np.float32)
        lift = rng.uniform(-6.0, 6.0, (self._frames, 1, 1, 1)).astype(np.float32)
        start = int(rng.integers(0, self._noise.size - scene.size))
        noise = self._noise[start : start + scene.size].reshape(scene.shape)
        return np.asarray(np.clip(scene * (light * flicker) + lift + grain * noise, 0.0, 255.0), np.uint8)


def _shrunk(frame: Pixels, top: float, left: float, tall: float, wide: float) -> Pixels:
    """A window that is made smaller: averaged over areas, as watching does, at the price of whole source pixels."""
    height, width = frame.shape[:2]
    y = min(max(0, round(top)), height - round(tall))
    x = min(max(0, round(left)), width - round(wide))
    cut = frame[y : y + round(tall), x : x + round(wide)]
    return np.asarray(cv2.resize(cut, (WINDOW, WINDOW), interpolation=cv2.INTER_AREA), np.uint8)
