"""What an encoder of video is shown: its clip, in order, through cold starts and other questions."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from edge.bundle import Bundle, Picture
from edge.clock import FakeClock
from edge.encoder import FrameEncoder
from edge.messages import Frame
from tests.edge import tiny_robot


class ClipEngine(tiny_robot.TinyEngine):
    """Its latent is the first value of each picture of the clip."""

    def __init__(self, frames: int) -> None:
        def compute(buffers: tiny_robot.Buffers) -> None:
            buffers["latent"][0, 0] = buffers["picture"][:, 0, 0, 0]

        shapes = {"picture": (frames, 8, 8, 3)}, {"latent": (1, 1, frames)}
        super().__init__("encoder", *shapes, compute, FakeClock())


def frame(value: int) -> Frame:
    return Frame(np.full((8, 8, 3), value, np.uint8), value, value)


def clip_encoder(frames: int) -> FrameEncoder:
    bundle = tiny_robot.bundle()
    manifest = replace(bundle.manifest, picture=Picture(8, 8, frames=frames))
    return FrameEncoder(ClipEngine(frames), Bundle(bundle.folder, manifest, ""), FakeClock())


def seen(encoder: FrameEncoder, value: int) -> list[int]:
    return encoder.encode(frame(value)).tokens[0].astype(int).tolist()


def test_the_newest_picture_comes_last_and_the_oldest_leaves() -> None:
    encoder = clip_encoder(4)
    assert seen(encoder, 1) == [1, 1, 1, 1]
    assert seen(encoder, 2) == [1, 1, 1, 2]
    encoder.show(frame(3))
    assert seen(encoder, 4) == [1, 2, 3, 4]
    assert seen(encoder, 5) == [2, 3, 4, 5]


def test_a_cold_start_forgets_the_past() -> None:
    encoder = clip_encoder(3)
    for value in (1, 2, 3):
        encoder.show(frame(value))
    encoder.forget()
    assert seen(encoder, 7) == [7, 7, 7]


@pytest.mark.parametrize("asked", [np.full((8, 8, 3), 9, np.uint8), np.full((3, 8, 8, 3), 9, np.uint8)])
def test_other_questions_leave_the_clip_alone(asked: np.ndarray) -> None:
    encoder = clip_encoder(3)
    for value in (1, 2, 3):
        encoder.show(frame(value))
    assert encoder.tokens(asked)[0].tolist() == [9, 9, 9]
    assert seen(encoder, 4) == [2, 3, 4]


def test_without_video_there_is_no_past() -> None:
    encoder = clip_encoder(1)
    assert [seen(encoder, value) for value in (1, 2)] == [[1], [2]]
