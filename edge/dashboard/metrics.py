"""The same numbers for machines: Prometheus text, made from the newest tick when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from edge.clock import NS_PER_S
from edge.dashboard.observations import Observations
from edge.dashboard.state import timings
from edge.messages import CameraFault, RobotState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Its own registry, so that nothing else in the process appears in it."""

    def __init__(self, observations: Observations) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_TickCollector(observations))

    def text(self) -> bytes:
        """Prometheus text format 0.0.4."""
        return generate_latest(self._registry)


class _TickCollector(Collector):
    def __init__(self, observations: Observations) -> None:
        self._observations = observations

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily("latentloop_ticks", "Turns of the loop.", value=self._observations.ticks)
        newest = self._observations.newest()
        if newest is None:
            return
        tick = newest.tick
        age_s = (self._observations.age_ns() or 0) / NS_PER_S
        yield GaugeMetricFamily("latentloop_tick_age_seconds", "Time since the loop last ticked.", value=age_s)
        yield CounterMetricFamily("latentloop_overruns", "Ticks that took longer than the period.", value=tick.overruns)
        state = GaugeMetricFamily("latentloop_state", "1 for the supervisor's state.", labels=["state"])
        for each in RobotState:
            state.add_metric([each.value], float(each is tick.state))
        yield state
        faults = GaugeMetricFamily("latentloop_camera_fault", "1 for a camera fault present.", labels=["fault"])
        for fault in CameraFault:
            faults.add_metric([fault.value], float(fault in tick.faults))
        yield faults
        if tick.assessment is not None:
            seen = tick.assessment
            yield GaugeMetricFamily("latentloop_p_value", "Calibrated p-value of the frame.", value=float(seen.p_value))
            yield GaugeMetricFamily("latentloop_alarm", "1 while alarmed.", value=float(seen.alarmed))
        yield GaugeMetricFamily("latentloop_memory_episodes", "Episodes stored.", value=tick.memory.episodes)
        yield GaugeMetricFamily("latentloop_memory_concepts", "Concepts stored.", value=tick.memory.concepts)
        yield GaugeMetricFamily("latentloop_memory_bytes", "Size of the memory.", value=tick.memory.bytes)
        spreads = timings(self._observations.samples())
        durations = GaugeMetricFamily(
            "latentloop_stage_seconds", "Stage durations over the last minute.", labels=["stage", "quantile"]
        )
        for spread in (*spreads.stages, spreads.tick, spreads.engine, spreads.latency):
            if spread is not None:
                for quantile, value_ms in (("0.5", spread.p50), ("0.99", spread.p99), ("1", spread.max)):
                    durations.add_metric([spread.name, quantile], value_ms / 1000.0)
        yield durations
        if tick.telemetry is not None:
            counts = tick.telemetry.counts
            link = CounterMetricFamily("latentloop_link_frames", "Frames on the motor link.", labels=["kind"])
            for kind in ("sent", "acked", "received", "crc_errors", "dropped"):
                link.add_metric([kind], getattr(counts, kind))
            yield link
