"""The intrinsics of one camera as a file a person can read: written by ``latentloop calibrate camera``, used by the runtime."""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from edge.config import ConfigError, convert
from edge.errors import UserError
from edge.whole_file import write_whole

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

Matrix = NDArray[np.float64]
Positive = Annotated[float, Meta(gt=0)]
Side = Annotated[int, Meta(ge=16, le=100_000)]

ASPECT_TOLERANCE = 0.01
"""Shapes may differ by so much: 1366x768 and 1920x1080 are meant to be the same."""
_AGAIN = "run 'latentloop calibrate camera' again"
_HEAD = """# Intrinsics of one camera, measured by `latentloop calibrate camera`.
# Another lens, focus, zoom, or part of the sensor, and they have to be measured again.
"""


class IntrinsicsError(UserError):
    """The file cannot be read or written, or does not belong to this camera; one sentence."""


class Uncertainty(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Standard deviations in pixels, if the errors of the corners are independent."""

    fx: Annotated[float, Meta(ge=0)]
    fy: Annotated[float, Meta(ge=0)]
    cx: Annotated[float, Meta(ge=0)]
    cy: Annotated[float, Meta(ge=0)]


class Intrinsics(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One camera at one picture size, all in pixels; the centre of the upper left pixel is (0, 0).

    model: pinhole with radial and tangential distortion (Brown 1966; Conrady 1919), as OpenCV's ``calibrateCamera`` has it.
    fx, fy: focal lengths. cx, cy: principal point. distortion: k1, k2, p1, p2, k3. rms_px: reprojection error over all
    corners of the views used. views_px: that of each view; left_out_px: views whose error stood out, not used. board:
    what was shown. made_from: the source. opencv: the version that solved it.
    """

    format: Literal[1] = 1
    model: Literal["brown-conrady"] = "brown-conrady"
    width: Side
    height: Side
    fx: Positive
    fy: Positive
    cx: float
    cy: float
    distortion: tuple[float, float, float, float, float]
    rms_px: Annotated[float, Meta(ge=0)]
    board: str
    made_from: str
    opencv: str
    uncertainty_px: Uncertainty
    views_px: dict[str, float]
    left_out_px: dict[str, float]

    @property
    def matrix(self) -> Matrix:
        """float64 (3, 3), the camera matrix."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @property
    def lens(self) -> Lens:
        """The part of it that says where light falls."""
        return Lens(self.width, self.height, self.matrix, np.array(self.distortion))

    def save(self, path: Path) -> None:
        """Write all or nothing: aside, flushed to the disk, renamed. Raises IntrinsicsError."""
        try:
            write_whole(path, self.toml().encode())
        except OSError as error:
            raise IntrinsicsError(f"{path} cannot be written ({error.strerror}): choose another place with --out") from None

    def toml(self) -> str:
        """The file's text."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        tables = {key: value for key, value in plain.items() if isinstance(value, dict)}
        lines = [f"{key} = {_toml(value)}" for key, value in plain.items() if key not in tables]
        for name, table in tables.items():
            lines += ["", f"[{name}]", *(f"{_key(key)} = {_toml(value)}" for key, value in table.items())]
        return _HEAD + "\n".join(lines) + "\n"

    @classmethod
    def load(cls, path: Path) -> Intrinsics:
        """Read and check. Raises IntrinsicsError or ConfigError, naming file and key."""
        try:
            data = tomllib.loads(path.read_bytes().decode("utf-8"))
        except OSError as error:
            raise IntrinsicsError(f"the intrinsics {path} cannot be read ({error.strerror}): {_AGAIN}") from None
        except UnicodeDecodeError as error:
            raise IntrinsicsError(f"{path} is not UTF-8 text (byte {error.start}): {_AGAIN}") from None
        except tomllib.TOMLDecodeError as error:
            raise IntrinsicsError(f"{path} is not valid TOML ({str(error)[:1].lower()}{str(error)[1:]}): {_AGAIN}") from None
        found = convert(data, cls, str(path))
        numbers = {key: getattr(found, key) for key in ("fx", "fy", "cx", "cy", "rms_px")}
        numbers |= {f"distortion[{place}]": value for place, value in enumerate(found.distortion)}
        for key, value in numbers.items():
            if not math.isfinite(value):
                raise ConfigError(f"{path}: {key} is {value} and must be a finite number: {_AGAIN}")
        for key, value, side in (("cx", found.cx, found.width), ("cy", found.cy, found.height)):
            if not 0.0 <= value <= side:
                raise ConfigError(f"{path}: {key} is {value:g} and must lie in the picture (0 to {side}): {_AGAIN}")
        return found


def taken_out(intrinsics: Intrinsics | None) -> str:
    """Names the lens that is taken out of a camera's pictures, empty for none: what was learned from straight pictures says
    nothing about bent ones, or about those of another lens."""
    return "" if intrinsics is None else intrinsics.lens.fingerprint


@dataclass(frozen=True, slots=True)
class Lens:
    """Where light falls in a picture of one size. matrix: float64 (3, 3), pixels. distortion: float64 (5,)."""

    width: int
    height: int
    matrix: Matrix
    distortion: Matrix

    def scaled(self, width: int, height: int) -> Lens:
        """The same lens when the whole picture is scaled to another size; pixel centres stay in place, so edges align."""
        return Lens(width, height, scaled_matrix(self.matrix, width / self.width, height / self.height), self.distortion)

    @property
    def fingerprint(self) -> str:
        """Changes with every number that moves a pixel, and with nothing else."""
        numbers = np.array([self.width, self.height, *self.matrix.ravel(), *self.distortion], dtype="<f8")
        return hashlib.sha256(numbers.tobytes()).hexdigest()[:16]

    def fits(self, width: int, height: int) -> bool:
        """A picture of this size can be the same picture, only scaled."""
        return abs(width * self.height / (height * self.width) - 1.0) <= ASPECT_TOLERANCE


def scaled_matrix(matrix: Matrix, across: float, down: float) -> Matrix:
    """float64 (3, 3): a camera matrix after the picture has been scaled, with pixel centres at whole numbers."""
    scaled: Matrix = matrix.copy()
    scaled[0] *= across
    scaled[1] *= down
    scaled[0, 2] += 0.5 * across - 0.5
    scaled[1, 2] += 0.5 * down - 0.5
    return scaled


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def _toml(value: Any) -> str:
    """JSON's strings, numbers and lists are TOML's too, except for the one control character that JSON leaves alone."""
    text: str = json.dumps(value, ensure_ascii=False)
    return text.replace("\x7f", "\\u007f")


