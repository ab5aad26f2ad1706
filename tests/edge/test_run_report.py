"""Percentiles over a run, the warm-up left out."""

from __future__ import annotations

from edge.clock import NS_PER_MS
from edge.messages import Event, RobotState, Tick
from edge.run_report import WARM_UP_TICKS, RunReport


def test_the_warm_up_is_left_out_and_the_rest_is_not() -> None:
    report = RunReport()
    for index in range(WARM_UP_TICKS + 101):
        ms = 9000 if index < WARM_UP_TICKS else index - WARM_UP_TICKS
        tick = Tick(index, index * 100 * NS_PER_MS, RobotState.ACTING, capture_to_command_ns=ms * NS_PER_MS)
        tick.total_ns, tick.engine_ns, tick.timings_ns = (ms + 5) * NS_PER_MS, 5 * NS_PER_MS, {"camera": ms * NS_PER_MS}
        tick.events = (Event("alarm", "black", "", 0, 0.0),) if index == 3 else ()
        report.observe(tick)
    summary = report.summary()
    expected = {"p50": 50.0, "p99": 99.0, "max": 100.0}
    assert summary["camera_to_command_ms"] == summary["overhead_ms"] == summary["stage_ms"]["camera"] == expected
    assert (summary["ticks"], summary["tick_hz"], summary["events"]) == (WARM_UP_TICKS + 101, 10.0, {"alarm:black": 1})
