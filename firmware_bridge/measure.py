"""Measures the bridge on this machine: round trip, processor time, and how fast a killed host's motors stop.

``python -m firmware_bridge.measure`` prints one JSON object; 45 s. Milliseconds are wall-clock time of this machine, busy
or not: compare minima and medians.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from firmware_bridge import host_firmware
from firmware_bridge.framing import ACK_REQ
from firmware_bridge.host_firmware import HostFirmware, Kind
from firmware_bridge.link import Link
from firmware_bridge.messages import Ping, State
from firmware_bridge.plant import MotorOutput
from firmware_bridge.serial_controller import SerialController
from firmware_bridge.serial_port import open_port

NS_PER_MS = 1e6
_HOST = "import sys; from firmware_bridge import measure; measure.drive(sys.argv[1], 600.0)"


def drive(port: str, seconds: float) -> SerialController:
    """A host as it is meant to be: a loop of 10 Hz that commands, with lease and telemetry at their defaults."""
    controller = SerialController(port)
    controller.connect()
    controller.heartbeat(time.monotonic_ns() + 1_000_000_000, True)
    controller.arm()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        now = time.monotonic_ns()
        controller.heartbeat(now + 300_000_000, True)
        controller.send((10.0, -10.0), now + 250_000_000)
        controller.telemetry()
        time.sleep(0.1)
    return controller


def round_trip(kind: Kind, times: int = 1000) -> dict[str, float]:
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


def processor_time(kind: Kind, seconds: float = 10.0) -> dict[str, float]:
    """Per cent of one core: the host's side (in this process) and the firmware process."""
    firmware = host_firmware.start(prefer=kind)
    before, cpu_before, started = _cpu_s(firmware.pid), time.process_time(), time.monotonic()
    controller = drive(firmware.port, seconds)
    wall = time.monotonic() - started
    host, device = time.process_time() - cpu_before, _cpu_s(firmware.pid) - before
    latency_ns = controller.last_ack_latency_ns or 0
    bound_ns = controller.clock_error_bound_ns or 0
    controller.close()
    firmware.close()
    return {
        "host_percent": round(100 * host / wall, 2),
        "firmware_percent": round(100 * device / wall, 2),
        "last_command_applied_after_ms": round(latency_ns / NS_PER_MS, 3),
        "clock_error_bound_ms": round(bound_ns / NS_PER_MS, 3),
    }


def stop_after_kill(kind: Kind, trials: int = 20) -> dict[str, dict[str, float] | int]:
    """From SIGKILL of a driving host to SAFE_STOP and to standstill, by the firmware's own packets, ms.

    stopped_before: further trials in which the motors stood still before the kill, because the machine was too busy to
    keep host and firmware running for the length of a lease.
    """
    to_stop: list[float] = []
    to_still: list[float] = []
    after_lease: list[float] = []
    stopped_before = 0
    while len(to_stop) < trials and stopped_before < trials:
        killed_ns, packets = _kill_once(kind)
        if packets[0].state is not State.ACTIVE:
            stopped_before += 1
            continue
        stop = next(p for p in packets if p.state is State.SAFE_STOP)
        to_stop.append((stop.mono_ns - killed_ns) / NS_PER_MS)
        after_lease.append((stop.mono_ns - stop.last_lease_mono_ns) / NS_PER_MS)
        to_still.append((packets[-1].mono_ns - killed_ns) / NS_PER_MS)
    return {
        "kill_to_safe_stop_ms": _summary(to_stop),
        "last_lease_to_safe_stop_ms": _summary(after_lease),
        "kill_to_standstill_ms": _summary(to_still),
        "trials": len(to_stop),
        "stopped_before": stopped_before,
    }


def _kill_once(kind: Kind) -> tuple[int, list[MotorOutput]]:
    """The time of the kill, and the packets from then until standstill."""
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[1]))
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"{folder}/plant")
        listener.listen(1)
        firmware: HostFirmware = host_firmware.start(plant=Path(folder) / "plant", prefer=kind)
        connection, _ = listener.accept()
        with connection, subprocess.Popen([sys.executable, "-c", _HOST, firmware.port], env=environment) as host:
            newest = MotorOutput.unpack(connection.recv(256))
            while newest.output_mrad_s != (10_000, -10_000) and newest.state is not State.SAFE:
                newest = MotorOutput.unpack(connection.recv(256))
            end = time.monotonic() + random.uniform(0.3, 0.4)  # anywhere between two leases
            while time.monotonic() < end:
                connection.recv(256)
            killed_ns = time.monotonic_ns()
            host.send_signal(signal.SIGKILL)
            packets = [MotorOutput.unpack(connection.recv(256))]
            while packets[-1].state is not State.SAFE:
                packets.append(MotorOutput.unpack(connection.recv(256)))
        firmware.close()
    return killed_ns, packets


def _cpu_s(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _summary(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    found = {"min": ordered[0], "median": statistics.median(ordered), "p99": p99, "max": ordered[-1]}
    return {name: round(value, 3) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m firmware_bridge.measure", description=__doc__)
    parser.add_argument("--kind", choices=("c", "python"), default="c", help="which firmware (default: c)")
    kind: Kind = parser.parse_args().kind
    found = {
        "firmware": kind,
        "round_trip_ms": round_trip(kind),
        "processor": processor_time(kind),
        "stop_after_kill": stop_after_kill(kind),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
