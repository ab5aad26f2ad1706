"""A video file by PyAV, for what OpenCV's wheels cannot decode. Importing this needs the extra ``video``."""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np

from edge.cameras.camera import CameraError
from edge.clock import NS_PER_S
from edge.messages import Pixels


class PyavVideo:
    """See :class:`edge.cameras.decoders.Decoder`. Times are the file's presentation timestamps."""

    def __init__(self, path: str) -> None:
        try:
            self._container = av.open(path)
            self._stream = self._container.streams.video[0]
            self._frames: Iterator[av.VideoFrame] = self._container.decode(self._stream)
            first = next(self._frames)
        except (av.FFmpegError, IndexError, StopIteration):
            raise CameraError(f"{path} is not a video that OpenCV or PyAV can decode: re-encode it") from None
        self._start_s = first.time or 0.0
        self._frame = first
        self._first = True

    def grab(self) -> bool:
        if self._first:
            self._first = False
            return True
        try:
            self._frame = next(self._frames)
        except (StopIteration, av.FFmpegError):
            return False
        return True

    def retrieve(self) -> Pixels | None:
        return np.asarray(self._frame.to_ndarray(format="bgr24"), np.uint8)

    def time_ns(self) -> int:
        return max(0, round(((self._frame.time or 0.0) - self._start_s) * NS_PER_S))

    def interval_ns(self) -> int:
        rate = self._stream.average_rate
        return round(NS_PER_S / float(rate)) if rate else 0

    def close(self) -> None:
        self._container.close()
