"""Opens a source inside the capture process: one small class per way in which pictures come."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from cv2.typing import MatLike

from edge.cameras.camera import CameraError
from edge.cameras.source import NO_GSTREAMER, Kind, Source, opencv_has_gstreamer, pictures_in
from edge.clock import NS_PER_MS, NS_PER_S
from edge.messages import Pixels

DEVICE_TIMEOUT_S = 3
NETWORK_TIMEOUTS = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 8000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 3000]


class Decoder(Protocol):
    """Pictures one after another."""

    def grab(self) -> bool:
        """Go to the next picture, without decoding it where that can be avoided; False at the end. Blocks."""

    def retrieve(self) -> Pixels | None:
        """The grabbed picture, uint8 (H, W, 3) BGR; None if it is damaged."""

    def time_ns(self) -> int:
        """When the grabbed picture is to be shown, from the start of the recording; of a live source: when it was
        captured on the monotonic clock, 0 if the source cannot tell."""

    def interval_ns(self) -> int:
        """The usual time from one picture to the next, 0 if unknown."""

    def close(self) -> None: ...


class Video:
    """A video file, by OpenCV. Times are the file's presentation timestamps. Raises CameraError if not even the first
    picture can be decoded."""

    def __init__(self, path: str) -> None:
        self._capture = cv2.VideoCapture(path)
        if not self._capture.isOpened():
            raise CameraError(f"{path} is not a video that OpenCV can read: check it with another program")
        self._first = self._capture.grab()
        if not self._first:
            code = int(self._capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("latin-1").strip("\0 ")
            self._capture.release()
            raise CameraError(_undecodable(Path(path), code))

    def grab(self) -> bool:
        if self._first:
            self._first = False
            return True
        return self._capture.grab()

    def retrieve(self) -> Pixels | None:
        return _bgr(*self._capture.retrieve())

    def time_ns(self) -> int:
        return max(0, round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * NS_PER_MS))

    def interval_ns(self) -> int:
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        return round(NS_PER_S / fps) if fps > 0 else 0

    def close(self) -> None:
        self._capture.release()


class Folder:
    """A folder of pictures in natural order, at ``fps`` pictures per second."""

    def __init__(self, path: str, fps: float) -> None:
        self._pictures = pictures_in(Path(path))
        self._interval_ns = round(NS_PER_S / fps)
        self._index = -1

    def grab(self) -> bool:
        self._index += 1
        return self._index < len(self._pictures)

    def retrieve(self) -> Pixels | None:
        picture = cv2.imread(str(self._pictures[self._index]), cv2.IMREAD_COLOR)
        return None if picture is None else _bgr(True, picture)

    def time_ns(self) -> int:
        return self._index * self._interval_ns

    def interval_ns(self) -> int:
        return self._interval_ns

    def close(self) -> None:
        self._pictures = []


class Live:
    """A camera: a V4L2 device, a network stream or a GStreamer pipeline, by OpenCV."""

    def __init__(self, source: Source) -> None:
        self._device = source.kind is Kind.DEVICE
        if source.kind is Kind.DEVICE:
            self._capture = _open_device(source.target)
        elif source.kind is Kind.PIPELINE:
            if not opencv_has_gstreamer():
                raise CameraError(NO_GSTREAMER)
            self._capture = cv2.VideoCapture(source.target, cv2.CAP_GSTREAMER)
        else:
            os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp|fflags;nobuffer")
            self._capture = cv2.VideoCapture(source.target, cv2.CAP_FFMPEG, NETWORK_TIMEOUTS)
        if not self._capture.isOpened():
            raise CameraError(f"{source.label} does not open: {_HOW_TO_CHECK[source.kind]}")

    def grab(self) -> bool:
        return self._capture.grab()

    def retrieve(self) -> Pixels | None:
        return _bgr(*self._capture.retrieve())

    def time_ns(self) -> int:
        """V4L2 stamps each buffer on the monotonic clock and OpenCV passes that on; the others count from their
        start."""
        return round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * NS_PER_MS) if self._device else 0

    def interval_ns(self) -> int:
        return 0

    def close(self) -> None:
        self._capture.release()


_HOW_TO_CHECK = {
    Kind.DEVICE: "another program may hold it (see 'fuser -v'), or it is no capture device (try the next number)",
    Kind.URL: "check the address, user and password with 'ffprobe', and that the camera answers a ping",
    Kind.PIPELINE: "try it with 'gst-launch-1.0' first, with fakesink instead of appsink",
}


def open_decoder(source: Source, fps: float) -> Decoder:
    """Blocks until the source is open. fps: for folders. Raises CameraError."""
    if source.kind is Kind.FILE:
        return _open_file(source.target)
    if source.kind is Kind.FOLDER:
        return Folder(source.target, fps)
    return Live(source)


def _open_file(path: str) -> Decoder:
    """OpenCV first; what it cannot decode (AV1 in its wheels) PyAV may, where the extra ``video`` is installed."""
    try:
        return Video(path)
    except CameraError:
        try:
            from edge.cameras.pyav import PyavVideo
        except ImportError:
            pass
        else:
            return PyavVideo(path)
        raise


def _undecodable(path: Path, code: str) -> str:
    if code.lower() in ("av01", "av1"):
        return (
            f"{path} is AV1, which this OpenCV cannot decode: install latentloop[video], or re-encode it with "
            f"'ffmpeg -i {path.name} -c:v libx264 h264-{path.name}'"
        )
    return f"{path} is a {code or 'nameless'} video without one picture that can be decoded: re-encode it"


def _open_device(path: str) -> cv2.VideoCapture:
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(DEVICE_TIMEOUT_S))
    number = re.fullmatch(r"/dev/video(\d+)", os.path.realpath(path))
    capture = cv2.VideoCapture(int(number[1]) if number else path, cv2.CAP_V4L2)
    if capture.isOpened():
        # The format comes first: it decides which sizes and rates there are.
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture


def _bgr(ok: bool, picture: MatLike | None) -> Pixels | None:
    """OpenCV gives grey pictures of some sources as (H, W), and of some pipelines four channels."""
    if not ok or picture is None:
        return None
    if picture.ndim == 2:
        picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    elif picture.shape[2] == 4:
        picture = cv2.cvtColor(picture, cv2.COLOR_BGRA2BGR)
    return np.asarray(picture, np.uint8)
