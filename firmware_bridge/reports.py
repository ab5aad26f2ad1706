"""What the device said last, in the units of the contract and in the host's time."""

from __future__ import annotations

from firmware_bridge.clock_sync import ClockSync
from firmware_bridge.controller import Applied, FirmwareState, Health, LinkCounts, Telemetry
from firmware_bridge.messages import Fault, State, StateReport, StopCause

IN_FLIGHT = 32
"""Commands whose execution is waited for; more than that are never on the way."""
_NOT_MEASURED_DC = -32768
_STATES = {State[state.name]: state for state in FirmwareState}
_CAUSES = {cause: cause.name.lower() for cause in StopCause}


class Reports:
    """The STATE messages of one session. Not thread-safe."""

    def __init__(self, clock: ClockSync) -> None:
        self._clock = clock
        self._in_flight: dict[int, tuple[int, int]] = {}  # seq: valid until, sent
        self._measured_ns = 0
        self._cause = StopCause.NONE
        self.newest: StateReport | None = None
        self.state = State.OFFLINE
        """Before the first report."""
        self.seq = 0
        self.received_ns = 0
        self.applied: Applied | None = None
        self.acked = 0

    def sent(self, seq: int, valid_until_ns: int, now_ns: int) -> None:
        """A command is on its way."""
        self._in_flight.pop(seq, None)
        self._in_flight[seq] = valid_until_ns, now_ns
        if len(self._in_flight) > IN_FLIGHT:
            del self._in_flight[next(iter(self._in_flight))]

    def take(self, report: StateReport, seq: int, arrived_ns: int) -> None:
        """Raises ValueError for numbers that stand for nothing."""
        if report.state not in _STATES:
            raise ValueError(f"a STATE of {report.state}")
        self.state, self._cause = State(report.state), StopCause(report.stop_cause)
        self.newest, self.seq, self.received_ns = report, seq, arrived_ns
        self._measured_ns = self._clock.to_host_ns(report.t_us, arrived_ns)
        flown = self._in_flight.get(report.last_seq)
        if flown is None or report.applied_us == 0:
            return
        valid_until_ns, sent_ns = flown
        applied_ns = self._clock.to_host_ns(report.applied_us, arrived_ns)
        bound_ns = self._clock.error_bound_ns(arrived_ns)
        if applied_ns < sent_ns - bound_ns:
            return  # an older command, whose seq has come round again
        del self._in_flight[report.last_seq]
        self.acked += 1
        self.applied = Applied(valid_until_ns, sent_ns, max(sent_ns, applied_ns), bound_ns)

    def described(self, firmware: str, counts: LinkCounts, trouble: str) -> Telemetry:
        """As telemetry. There must have been a report."""
        report = self.newest
        assert report is not None
        hot = () if report.temperature_dc == _NOT_MEASURED_DC else (report.temperature_dc / 10,)
        return Telemetry(
            state=_STATES[self.state],
            position=tuple([value / 1000 for value in report.position]),
            velocity=tuple([value / 1000 for value in report.velocity]),
            current=tuple([value / 1000 for value in report.current]),
            received_ns=self.received_ns,
            firmware=firmware,
            faults=tuple(fault.name.lower() for fault in Fault if fault.name and fault & report.faults) if report.faults else (),
            counts=counts,
            measured_ns=self._measured_ns,
            health=Health(report.supply_mv / 1000 if report.supply_mv else None, hot),
            trouble=trouble,
            stop_cause=_CAUSES[self._cause],
            applied=self.applied,
            planned_s=report.queue_ms / 1000,
        )
