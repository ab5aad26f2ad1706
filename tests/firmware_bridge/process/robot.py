"""A program as it is meant to be, around a bridge process: prints what it knows, and does what its arguments say."""

from __future__ import annotations

import signal
import sys
import time

from firmware_bridge.process.controller import ProcessController


def main(port: str, lease_s: str, alive_s: str, deaf: str) -> None:
    """alive_s: deadline of each heartbeat. deaf: "1" to ignore Ctrl-C, as a program that hangs."""
    if deaf == "1":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    ending = []
    if deaf == "0":
        signal.signal(signal.SIGINT, lambda *_: ending.append(1))
    controller = ProcessController(port, lease_s=float(lease_s))
    controller.connect()
    controller.heartbeat(time.monotonic_ns() + 10**9, True)
    controller.arm()
    print(controller.pid, flush=True)
    ahead_ns = int(float(alive_s) * 1e9)
    while not ending:
        now = time.monotonic_ns()
        controller.heartbeat(now + ahead_ns, True)
        controller.send((10.0, -10.0), now + ahead_ns)
        time.sleep(0.02)
    controller.close()
    print("closed", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
