"""Measures the bridge on this machine: round trip, processor time, losses, and how fast the motors stop when their host does.

``python -m firmware_bridge.measure`` prints one JSON object; see ``--help``. Milliseconds are wall-clock time of this machine,
busy or not: compare minima and medians.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from firmware_bridge import host_firmware
from firmware_bridge.board import ARM
from firmware_bridge.framing import ACK_REQ
from firmware_bridge.host_firmware import Kind
from firmware_bridge.link import Link
from firmware_bridge.messages import Ping, State
from firmware_bridge.plant import MotorOutput
from firmware_bridge.process.controller import ProcessController
from firmware_bridge.serial_port import open_port

NS_PER_MS = 1e6
LEASE_S = 0.1
Note = Callable[[str], None]
_HOST = "import sys; from firmware_bridge import measure; measure.drive(sys.argv[1], 600.0)"
_BUSY = "while True: pass"


def drive(port: str, seconds: float) -> ProcessController:
    """A host as it is meant to be: a loop of 50 Hz that commands through a bridge process. Heartbeats and commands hold as long
    as the lease. The bridge is still open afterwards."""
    controller = ProcessController(port, lease_s=LEASE_S)
    controller.connect()
    ahead_ns = int(LEASE_S * 1e9)
    controller.heartbeat(time.monotonic_ns() + 10 * ahead_ns, True)
    controller.arm()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        now = time.monotonic_ns()
        controller.heartbeat(now + ahead_ns, True)
        controller.send((10.0, -10.0), now + ahead_ns)
        time.sleep(0.02)
    return controller


def round_trip(kind: Kind, times: int = 2000) -> dict[str, float]:
    """PING to ACK over the pseudo-terminal, ms."""
    firmware = host_firmware.start(prefer=kind)
    link = Link(open_port(firmware.port, 115_200))
    took = []
    for _ in range(times):
        sent_ns = time.monotonic_ns()
        link.send(Ping(), 0, ACK_REQ)
        while not (frames := link.receive()):
            pass
        took.append((frames[0][1] - sent_ns) / NS_PER_MS)
    link.close()
    firmware.close()
    return _summary(took)


def call_cost(kind: Kind, turns: int = 2000) -> dict[str, float]:
    """What ``heartbeat`` and ``send`` together take from the loop, us, at 200 turns a second."""
    firmware = host_firmware.start(prefer=kind)
    controller = drive(firmware.port, 0.1)
    took = []
    for _ in range(turns):
        before_ns = time.perf_counter_ns()
        now = time.monotonic_ns()
        controller.heartbeat(now + 300_000_000, True)
        controller.send((10.0, -10.0), now + 250_000_000)
        took.append((time.perf_counter_ns() - before_ns) / 1e3)
        time.sleep(0.005)
    controller.close()
    firmware.close()
    return _summary(took)


def steady(kind: Kind, seconds: float, hz: float, note: Note) -> dict[str, Any]:
    """Command the six joints of the arm for so long: what of one core it takes, and what was lost by the counters of both ends."""
    firmware = host_firmware.start(prefer=kind, board="arm")
    controller = ProcessController(firmware.port, ARM.axes, lease_s=0.5)
    controller.connect()
    controller.heartbeat(time.monotonic_ns() + 1_000_000_000, True)
    controller.arm()
    child = controller.pid
    assert child is not None
    before, started = (time.process_time(), _cpu_s(child), _cpu_s(firmware.pid)), time.monotonic()
    turns, worst_bound_ns, acted_on = 0, 0, []
    turn = time.monotonic()
    while (elapsed := time.monotonic() - started) < seconds:
        now = time.monotonic_ns()
        controller.heartbeat(now + 500_000_000, True)
        swing = 0.5 * math.sin(2 * math.pi * 0.2 * elapsed)
        controller.send((swing,) * len(ARM.axes), now + 500_000_000)
        applied = controller.telemetry().applied
        if applied is not None:
            worst_bound_ns = max(worst_bound_ns, applied.bound_ns)
            acted_on.append((applied.applied_ns - (applied.valid_until_ns - 500_000_000)) / NS_PER_MS)
        turns += 1
        if turns % 1000 == 0:
            note(f"{elapsed:.0f} of {seconds:.0f} s")
        turn = max(turn + 1 / hz, time.monotonic())
        time.sleep(max(0.0, turn - time.monotonic()))
    wall = time.monotonic() - started
    spent = [after - b for after, b in zip((time.process_time(), _cpu_s(child), _cpu_s(firmware.pid)), before, strict=True)]
    seen = controller.telemetry()
    controller.close()
    firmware.close()
    return {
        "seconds": round(wall, 1),
        "turns": turns,
        "turns_per_second": round(turns / wall, 1),
        "loop_percent": round(100 * spent[0] / wall, 2),
        "bridge_process_percent": round(100 * spent[1] / wall, 2),
        "host_percent": round(100 * (spent[0] + spent[1]) / wall, 2),
        "firmware_percent": round(100 * spent[2] / wall, 2),
        "lost_or_held_back": seen.counts.dropped,
        "crc_errors": seen.counts.crc_errors,
        "state_at_the_end": seen.state.value,
        "stop_cause": seen.stop_cause,
        "acted_on_after_ms": _summary(acted_on),
        "worst_clock_bound_ms": round(worst_bound_ns / NS_PER_MS, 3),
    }


def stops(kind: Kind, sent: signal.Signals, whole: bool, trials: int, busy: int, note: Note) -> dict[str, Any]:
    """A driving host is killed or frozen: until SAFE_STOP, by the firmware's own packets, ms.

    whole: the bridge process with it, so that nobody is left but the firmware. busy: so many processes beside it that do
    nothing but burn time. within_lease_plus_10_ms: counted from the signal. firmware_pauses_ms: between the packet that reports
    the stop and the one before it; 10 ms at most while the machine runs the firmware. stopped_before: further trials in which
    the motors stood still already, because the machine did not run the host for a lease.
    """
    after_lease: list[float] = []
    after_signal: list[float] = []
    pauses: list[float] = []
    stopped_before = 0
    with _burners(busy):
        while len(after_lease) < trials and stopped_before < trials:
            at_ns, packets = _stop_once(kind, sent, whole)
            note(f"{sent.name} with {busy} busy processes: {len(after_lease)} of {trials}")
            if packets[0].state is not State.ACTIVE:
                stopped_before += 1
                continue
            at = next(i for i, packet in enumerate(packets) if packet.state is not State.ACTIVE)
            stop = packets[at]
            after_signal.append((stop.mono_ns - at_ns) / NS_PER_MS)
            after_lease.append((stop.mono_ns - stop.last_lease_mono_ns) / NS_PER_MS)
            pauses.append((stop.mono_ns - packets[at - 1].mono_ns) / NS_PER_MS)
    in_time = sum(each <= 1e3 * LEASE_S + 10 for each in after_signal)
    return {
        "trials": len(after_lease),
        "within_lease_plus_10_ms": in_time,
        "last_lease_to_safe_stop_ms": _summary(after_lease),
        "signal_to_safe_stop_ms": _summary(after_signal),
        "firmware_pauses_ms": _summary(pauses),
        "stopped_before": stopped_before,
    }


@contextlib.contextmanager
def _burners(count: int) -> Iterator[None]:
    running = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def _stop_once(kind: Kind, sent: signal.Signals, whole: bool) -> tuple[int, list[MotorOutput]]:
    """When the signal was sent, and the packets from then until standstill."""
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[1]))
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"{folder}/plant")
        listener.listen(1)
        firmware = host_firmware.start(plant=Path(folder) / "plant", prefer=kind)
        connection, _ = listener.accept()
        command = [sys.executable, "-c", _HOST, firmware.port]
        with connection, subprocess.Popen(command, env=environment, start_new_session=True) as host:
            newest = MotorOutput.unpack(connection.recv(256))
            while newest.output_mrad_s != (10_000, -10_000) and newest.state is not State.SAFE:
                newest = MotorOutput.unpack(connection.recv(256))
                if host.poll() is not None:  # it could not even connect: this machine is too busy
                    firmware.close()
                    return time.monotonic_ns(), [newest]
            end = time.monotonic() + random.uniform(0.3, 0.4)  # anywhere between two leases
            while time.monotonic() < end:
                newest = MotorOutput.unpack(connection.recv(256))
            at_ns = time.monotonic_ns()
            (os.killpg if whole else os.kill)(host.pid, sent)
            packets = [newest]
            while packets[-1].output_mrad_s != (0, 0):
                packets.append(MotorOutput.unpack(connection.recv(256)))
            os.killpg(host.pid, signal.SIGKILL)
        firmware.close()
    return at_ns, packets


def _cpu_s(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _summary(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    found = {"min": ordered[0], "median": statistics.median(ordered), "p99": p99, "max": ordered[-1]}
    return {name: round(value, 3) for name, value in found.items()}


_EXAMPLES = """examples:
  python -m firmware_bridge.measure                      all of it, some 3 minutes
  python -m firmware_bridge.measure --seconds 600        200 commands a second for ten minutes
  python -m firmware_bridge.measure --only stops --trials 100
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of the measurement, for whoever offers it as a command."""
    parser.add_argument("--kind", choices=("c", "python"), default="c", help="which firmware (default: %(default)s)")
    parser.add_argument("--only", choices=("calls", "steady", "stops"), help="this part only")
    parser.add_argument("--seconds", type=float, default=30.0, help="of steady commands (default: %(default)s)")
    parser.add_argument("--hz", type=float, default=200.0, help="of them per second (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=10, help="per way of stopping (default: %(default)s)")


def measured(given: argparse.Namespace, note: Note) -> dict[str, Any]:
    """What was asked for. Raises BridgeError where the firmware cannot be started."""
    kind: Kind = given.kind
    found: dict[str, Any] = {"firmware": kind, "lease_ms": 1e3 * LEASE_S}
    if given.only in (None, "calls"):
        found |= {"round_trip_ms": round_trip(kind), "heartbeat_and_send_us": call_cost(kind)}
    if given.only in (None, "steady"):
        found["steady"] = steady(kind, given.seconds, given.hz, note)
    if given.only in (None, "stops"):
        for sent, whole, busy in itertools.product((signal.SIGKILL, signal.SIGSTOP), (False, True), (0, 2)):
            name = f"{sent.name.lower()}_of_{'host_and_bridge' if whole else 'host'}{f'_beside_{busy}_busy' if busy else ''}"
            found[name] = stops(kind, sent, whole, given.trials, busy, note)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m firmware_bridge.measure",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    print(json.dumps(measured(parser.parse_args(), lambda text: print(f"\r{text}", end="", file=sys.stderr)), indent=1))


if __name__ == "__main__":
    main()
