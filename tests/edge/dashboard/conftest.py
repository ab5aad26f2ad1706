"""A dashboard under test: a real server on a free port, fed by a thread that stands in for the loop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.clock import MonotonicClock
from edge.dashboard import Dashboard
from edge.dashboard.feed import Building
from tests.edge.dashboard.synthetic_ticks import AXES, PERIOD_NS, RecordingOperator, ticks

PAST_TICKS = 235
"""Seconds after an alarm began, so that a page opened now has ten seconds of it left to see."""


class Live:
    """A dashboard with its operator and its loop."""

    def __init__(
        self,
        token_path: Path,
        operator: RecordingOperator | None,
        port: int = 0,
        host: str = "127.0.0.1",
        engines: Building | None = None,
    ) -> None:
        self.token_path = token_path
        self.operator = operator
        self.dashboard = Dashboard(
            title="Rover under test",
            operator=operator,
            host=host,
            port=port,
            token_path=token_path,
            axes=AXES,
            period_s=PERIOD_NS / 1e9,
            engines=engines,
        )
        self.url = ""
        self.port = 0
        self._ended = threading.Event()
        self._feeding = threading.Thread(target=self._feed, daemon=True)

    def start(self) -> Live:
        self.url = self.dashboard.start()
        self.port = int(self.url.rstrip("/").rpartition(":")[2])
        self._feeding.start()
        return self

    @property
    def token(self) -> str:
        return self.token_path.read_text().strip()

    def stop_ticking(self) -> None:
        self._ended.set()
        self._feeding.join()

    def close(self) -> None:
        self.stop_ticking()
        self.dashboard.close()

    def _feed(self) -> None:
        now_ns = MonotonicClock().now_ns()
        for number, tick in enumerate(ticks(self.operator, now_ns - PAST_TICKS * PERIOD_NS, draw_from=PAST_TICKS)):
            if number >= PAST_TICKS and self._ended.wait(max(0.0, (tick.started_ns - MonotonicClock().now_ns()) / 1e9)):
                return
            self.dashboard.observe(tick)


Start = Callable[..., Live]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """start(operator=..., port=0, host=..., engines=...) serves a live dashboard; all are closed at the end."""
    running: list[Live] = []

    def begin(
        operator: RecordingOperator | None = None, port: int = 0, host: str = "127.0.0.1", engines: Building | None = None
    ) -> Live:
        live = Live(tmp_path / "state" / "token", operator, port, host, engines)
        running.append(live)
        return live.start()

    yield begin
    for live in running:
        live.close()
