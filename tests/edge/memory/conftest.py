"""Memories in folders that vanish, and episodes that follow from a number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.clock import FakeClock
from edge.memory import Episode, Memory

DIM = 8


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(start_ns=1_000_000_000)


@pytest.fixture
def open_memory(tmp_path: Path, clock: FakeClock) -> Iterator[Callable[..., Memory]]:
    """Opens memories of one bundle; whatever the test leaves open is closed."""
    opened: list[Memory] = []

    def open_it(folder: Path | None = None, **changes: Any) -> Memory:
        settings: dict[str, Any] = {"bundle_sha256": "b" * 64, "tokens": 4, "dim": DIM, "actions": 2, "clock": clock}
        memory = Memory.open(folder or tmp_path / "memory", **(settings | changes))
        opened.append(memory)
        return memory

    yield open_it
    for memory in opened:
        memory.close()


@pytest.fixture
def episode() -> Callable[..., Episode]:
    """Episodes with content that follows from a number."""

    def make(number: int = 1, kind: str = "alarm", **changes: Any) -> Episode:
        latent = np.random.default_rng(number).standard_normal(DIM, dtype=np.float32)
        settings: dict[str, Any] = {"cause": "unexpected", "detail": f"number {number}", "at_ns": number, "wall_s": 1.0}
        return Episode(kind, latent=latent, **(settings | changes))

    return make
