"""A tick in the words and numbers of the page: the JSON messages a browser receives.

Times are milliseconds, except chart times, which are seconds of the loop's monotonic clock. A number that is not
finite becomes null. Field names are the contract with ``static/*.js``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from edge.clock import NS_PER_MS, NS_PER_S
from edge.dashboard.observations import Newest, Sample, Seen
from edge.messages import EngineBuild, Floats, Tick

SMALLEST_P = 1e-12
HEAT_UNIT = 100
"""Heat travels as bytes in hundredths of the alarm threshold, so it saturates at 2.55 thresholds."""


class Heat(msgspec.Struct):
    """Surprise per patch, row by row, one byte per cell (base64 in JSON) in hundredths of the alarm threshold."""

    rows: int
    columns: int
    cells: bytes


class Picture(msgspec.Struct):
    sequence: int
    width: int
    height: int
    age_ms: float


class Surprise(msgspec.Struct):
    """surprise and threshold are -log10 of p_value and alarm_p."""

    surprise: float
    threshold: float
    p_value: float
    error: float
    unfamiliarity: float
    alarmed: bool
    cause: str


class GoalState(msgspec.Struct):
    name: str
    reached_cost: float
    picture: int


class PlanState(msgspec.Struct):
    actions: list[list[float]]
    cost: float
    cost_now: float
    iterations: int
    candidates: int
    goal: str
    reached: bool


class CommandState(msgspec.Struct):
    action: list[float]
    targets: list[float]
    limited: tuple[str, ...]


class Motors(msgspec.Struct):
    state: str
    position: list[float]
    velocity: list[float]
    current: list[float]
    age_ms: float | None
    firmware: str
    faults: tuple[str, ...]
    sent: int
    acked: int
    received: int
    crc_errors: int
    dropped: int


class Memory(msgspec.Struct):
    episodes: int
    concepts: int
    bytes: int


class Spread(msgspec.Struct):
    """How long something took over the last minute, in ms. last is None when the newest tick did not do it."""

    name: str
    last: float | None
    p50: float
    p99: float
    max: float


class State(msgspec.Struct, tag_field="type", tag="state"):
    """Everything the page shows of one tick except the picture. tick_age_ms: since the loop last ticked."""

    index: int
    tick_age_ms: float
    rate_hz: float | None
    period_ms: float | None
    overruns: int
    state: str
    reason: str
    faults: list[str]
    coasted: int
    picture: Picture | None
    heat: Heat | None
    surprise: Surprise | None
    goal: GoalState | None
    plan: PlanState | None
    command: CommandState | None
    motors: Motors | None
    memory: Memory
    stages: list[Spread]
    tick: Spread | None
    engine: Spread | None
    latency: Spread | None
    engine_build: EngineBuild | None


class EventState(msgspec.Struct):
    number: int
    kind: str
    cause: str
    detail: str
    wall_s: float
    thumbnail: bool


class More(msgspec.Struct, tag_field="type", tag="more"):
    """What is new since the last such message to this client: chart columns of equal length, and events."""

    at_s: list[float]
    surprise: list[float | None]
    threshold: list[float | None]
    error: list[float | None]
    unfamiliarity: list[float | None]
    alarmed: list[bool]
    events: list[EventState]


class Problem(msgspec.Struct, tag_field="type", tag="problem"):
    """The dashboard itself could not do its work; the loop is not affected."""

    text: str


class Timings(msgspec.Struct):
    """The spreads over a minute, recomputed now and then rather than per message."""

    rate_hz: float | None
    stages: list[Spread]
    tick: Spread | None
    engine: Spread | None
    latency: Spread | None


def timings(samples: Sequence[Sample]) -> Timings:
    """Percentiles over ``samples`` (oldest first), and the rate over the last five seconds of them."""
    if not samples:
        return Timings(None, [], None, None, None)
    last = samples[-1]
    names = list(last.timings_ns)
    names += sorted({name for sample in samples for name in sample.timings_ns} - set(names))
    stages = []
    for name in names:
        values = [sample.timings_ns[name] for sample in samples if name in sample.timings_ns]
        stages.append(_spread(name, last.timings_ns.get(name), values))
    latencies = [s.capture_to_command_ns for s in samples if s.capture_to_command_ns is not None]
    recent = [s.at_ns for s in samples if s.at_ns >= last.at_ns - 5 * NS_PER_S]
    span_s = (recent[-1] - recent[0]) / NS_PER_S
    return Timings(
        rate_hz=(len(recent) - 1) / span_s if span_s > 0 else None,
        stages=stages,
        tick=_spread("tick", last.total_ns, [s.total_ns for s in samples]),
        engine=_spread("engine", last.engine_ns, [s.engine_ns for s in samples]),
        latency=_spread("latency", last.capture_to_command_ns, latencies) if latencies else None,
    )


def describe(
    newest: Newest,
    now_ns: int,
    over_a_minute: Timings,
    period_ms: float | None,
    goal_picture: int,
    building: EngineBuild | None = None,
) -> State:
    """The page's view of the newest tick. goal_picture: number of the goal's picture, 0 for none. building: engines in the
    background, None where none are built."""
    tick = newest.tick
    belief = tick.belief
    return State(
        index=tick.index,
        tick_age_ms=max(0, now_ns - newest.observed_ns) / NS_PER_MS,
        rate_hz=over_a_minute.rate_hz,
        period_ms=period_ms,
        overruns=tick.overruns,
        state=tick.state.value,
        reason=tick.reason,
        faults=[fault.value for fault in tick.faults],
        coasted=0 if belief is None else belief.coasted,
        picture=_picture(tick, now_ns),
        heat=None if tick.assessment is None or tick.assessment.heat is None else heat_of(tick.assessment.heat),
        surprise=_surprise(tick),
        goal=None if tick.goal is None else GoalState(tick.goal.name, float(tick.goal.reached_cost), goal_picture),
        plan=_plan(tick),
        command=None
        if tick.command is None
        else CommandState(_numbers(tick.command.action), _numbers(tick.command.targets), tick.command.limited),
        motors=_motors(tick, now_ns),
        memory=Memory(tick.memory.episodes, tick.memory.concepts, tick.memory.bytes),
        stages=over_a_minute.stages,
        tick=over_a_minute.tick,
        engine=over_a_minute.engine,
        latency=over_a_minute.latency,
        engine_build=building if building is not None and building.text else None,
    )


def more(samples: Sequence[Sample], events: Sequence[Seen]) -> More:
    """The chart points and events a client has not had yet."""
    return More(
        at_s=[sample.at_ns / NS_PER_S for sample in samples],
        surprise=[surprise_of(sample.p_value) for sample in samples],
        threshold=[surprise_of(sample.alarm_p) for sample in samples],
        error=[_number(sample.error) for sample in samples],
        unfamiliarity=[_number(sample.unfamiliarity) for sample in samples],
        alarmed=[sample.alarmed for sample in samples],
        events=[EventState(n, e.kind, e.cause, e.detail, float(e.wall_s), bool(e.thumbnail)) for n, e in events],
    )


def surprise_of(p_value: float | None) -> float | None:
    """-log10 of a p-value, at most 12; None for no p-value or one that is not a number."""
    if p_value is None or math.isnan(p_value):
        return None
    return -math.log10(min(1.0, max(SMALLEST_P, float(p_value)))) + 0.0


def heat_of(heat: Floats) -> Heat:
    """heat: float32 (gh, gw), 1.0 at the alarm threshold; cells that are not a number count as cold."""
    bounded = np.clip(np.nan_to_num(heat, nan=0.0), 0.0, 255 / HEAT_UNIT)
    cells = np.rint(bounded * HEAT_UNIT).astype(np.uint8)
    return Heat(int(heat.shape[0]), int(heat.shape[1]), cells.tobytes())


def _picture(tick: Tick, now_ns: int) -> Picture | None:
    frame = tick.frame
    if frame is None:
        return None
    height, width = frame.pixels.shape[:2]
    return Picture(frame.sequence, int(width), int(height), max(0, now_ns - frame.captured_ns) / NS_PER_MS)


def _surprise(tick: Tick) -> Surprise | None:
    seen = tick.assessment
    if seen is None:
        return None
    return Surprise(
        surprise=surprise_of(seen.p_value) or 0.0,
        threshold=surprise_of(seen.alarm_p) or 0.0,
        p_value=float(seen.p_value),
        error=float(seen.error),
        unfamiliarity=float(seen.unfamiliarity),
        alarmed=bool(seen.alarmed),
        cause=seen.cause,
    )


def _plan(tick: Tick) -> PlanState | None:
    plan = tick.plan
    if plan is None:
        return None
    return PlanState(
        actions=[_numbers(step) for step in plan.actions],
        cost=float(plan.cost),
        cost_now=float(plan.cost_now),
        iterations=int(plan.iterations),
        candidates=int(plan.candidates),
        goal=plan.goal,
        reached=bool(plan.reached),
    )


def _motors(tick: Tick, now_ns: int) -> Motors | None:
    telemetry = tick.telemetry
    if telemetry is None:
        return None
    counts = telemetry.counts
    return Motors(
        state=telemetry.state.value,
        position=_numbers(telemetry.position),
        velocity=_numbers(telemetry.velocity),
        current=_numbers(telemetry.current),
        age_ms=max(0, now_ns - telemetry.received_ns) / NS_PER_MS if telemetry.received_ns else None,
        firmware=telemetry.firmware,
        faults=telemetry.faults,
        sent=counts.sent,
        acked=counts.acked,
        received=counts.received,
        crc_errors=counts.crc_errors,
        dropped=counts.dropped,
    )


def _spread(name: str, last_ns: int | None, values_ns: Sequence[int]) -> Spread:
    p50, p99 = np.percentile(np.asarray(values_ns, dtype=np.float64), (50, 99))
    return Spread(
        name,
        None if last_ns is None else last_ns / NS_PER_MS,
        float(p50) / NS_PER_MS,
        float(p99) / NS_PER_MS,
        max(values_ns) / NS_PER_MS,
    )


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _numbers(values: Floats | Sequence[float]) -> list[float]:
    # More than four decimals on a page is noise, and they would be most of the message.
    return [round(float(value), 4) for value in values]
