"""What is remembered: one episode that happened, and the belief to wake up with."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edge.messages import Belief, Floats

# From the first forgotten to the last: the order of the forgetting rule (see docs/memory.md).
KINDS: tuple[str, ...] = ("novel", "state", "goal", "fault", "alarm")

MAX_EPISODE_BYTES = 1 << 20
MAX_ID = 1 << 62


def pooled(tokens: Floats) -> Floats:
    """The one latent under which a frame is found again: the mean over its tokens. float32 (T, D) -> float32 (D,)."""
    return np.asarray(tokens.mean(axis=0), dtype=np.float32)


def _no_action() -> Floats:
    return np.zeros(0, dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Episode:
    """Something that happened and is worth keeping.

    kind: one of :data:`KINDS`. cause, detail: as in :class:`edge.messages.Event`. at_ns: monotonic time of this boot.
    wall_s: seconds since the epoch, a label. latent: float32 (D,), see :func:`pooled`. action: float32 (A,) commanded
    at that moment, or (0,) if none. p_value: how surprising, in [0, 1]. thumbnail: JPEG or empty. before, after: small
    JPEGs around the moment, oldest first. id: 0 until it is remembered.
    """

    kind: str
    cause: str
    detail: str
    at_ns: int
    wall_s: float
    latent: Floats
    action: Floats = field(default_factory=_no_action)
    p_value: float = 1.0
    thumbnail: bytes = b""
    before: tuple[bytes, ...] = ()
    after: tuple[bytes, ...] = ()
    id: int = 0

    def payload_bytes(self) -> int:
        """How much room the episode asks for, without SQLite's own overhead."""
        pictures = len(self.thumbnail) + sum(map(len, self.before)) + sum(map(len, self.after))
        return pictures + self.latent.nbytes + self.action.nbytes + 4 * (len(self.cause) + len(self.detail)) + 128


@dataclass(frozen=True, slots=True, eq=False)
class BeliefCheckpoint:
    """The part of a belief that survives a restart.

    context: float32 (C, T, D), oldest first. actions: float32 (C - 1, A) in [-1, 1]. captured_ns: monotonic capture
    time of the newest real frame (meaningless after a reboot). camera: fingerprint of the camera and its calibration,
    ``""`` if none. age_s: set on restore, seconds between saving and restoring; 0.0 when saved.
    """

    context: Floats
    actions: Floats
    captured_ns: int
    camera: str = ""
    age_s: float = 0.0

    @classmethod
    def of(cls, belief: Belief, camera: str = "") -> BeliefCheckpoint:
        """The checkpoint of a running belief."""
        return cls(belief.context, belief.actions, belief.captured_ns, camera)
