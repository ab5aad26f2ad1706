"""What a motor controller must show before it may be armed: each check moves the motors, and says what was seen."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from edge.bridge.hand import STILL, Hand, Path
from edge.bridge.proof import Check, Result
from firmware_bridge.controller import Axis, AxisMode, BridgeError, FirmwareState
from firmware_bridge.link import LinkLost

TRIES = 3
ESTOP_MS = 100
SLOW = 0.2
"""Share of its largest speed at which an axis moves before it has to stop."""
SWING = 0.3
"""rad, by which a joint swings to and fro meanwhile."""
OVERSHOOT = 1.1
BEYOND = 0.3
"""rad, by which a joint is sent out of its range."""
PLAY = 0.05
"""rad, by which it may overshoot its range."""
_OFF = (FirmwareState.LINKED, FirmwareState.SAFE, FirmwareState.IDLE, FirmwareState.SAFE_STOP)


def examine(hand: Hand) -> Iterator[Check]:
    """One check after the other; however it ends, the motors are disarmed. Raises BridgeError and LinkLost."""
    try:
        hand.rest()
        for check in (unarmed, limits, lease, command, estop):
            yield repeated(check, hand)
    finally:
        hand.leased = False  # it is fed no more
        with contextlib.suppress(LinkLost, BridgeError):
            hand.disarm()


def repeated(check: Callable[[Hand], Check], hand: Hand) -> Check:
    """A failure counts only if this computer was not held up meanwhile, or was at each of TRIES. Raises BridgeError."""
    for _ in range(TRIES - 1):
        hand.held_up = False
        try:
            found = check(hand)
            if found.result != "failed" or not hand.held_up:
                return found
        except BridgeError:
            if not hand.held_up:
                raise
            hand.rest()
    return check(hand)


def unarmed(hand: Hand) -> Check:
    """With a lease and commands, but without ARM."""
    hand.leased = True
    hand.forget()
    hand.follow(slowly(hand, 1))
    hand.run(0.3)
    moved = [axis.name for i, axis in enumerate(hand.axes) if hand.moved(i)]
    active = any(report.state is FirmwareState.ACTIVE for report in hand.seen)
    hand.rest()
    if moved or active:
        return Check("unarmed", "failed", f"{', '.join(moved) or 'it'} became active", "nothing moves without ARM")
    return Check("unarmed", "proved", "nothing moved", "nothing moves without ARM")


def limits(hand: Hand) -> Check:
    """Wheels are told twice their largest speed. Joints are told to jump, and then, slowly and one by one, out of their range."""
    found, results = [], list[Result]()
    for part in (_speeds(hand), *(_range(hand, i) for i, axis in enumerate(hand.axes) if axis.mode is AxisMode.POSITION)):
        found.append(part[1])
        results.append(part[0])
    wanted = "within the speeds and ranges that are told, 10 % for the motors"
    return Check("limits", _worst(results), "; ".join(found), wanted)


def lease(hand: Hand) -> Check:
    """Commands go on, the lease is not fed any more."""
    _set_moving(hand, -1)
    hand.leased, hand.valid_ms = False, 1500
    return _stopped(hand, "lease", hand.causes[0], lambda: hand.lease_end)


def command(hand: Hand) -> Check:
    """The lease goes on, commands do not."""
    _set_moving(hand, 1)
    hand.follow(None)
    return _stopped(hand, "command expiry", hand.causes[1], lambda: hand.command_end)


def estop(hand: Hand) -> Check:
    """Stops at once and stays stopped, whatever comes after."""
    _set_moving(hand, -1)
    motionless = hand.motionless()
    began_ns = time.monotonic_ns()
    hand.stop()
    stopped = hand.until(lambda: hand.newest.state is FirmwareState.ESTOP)
    took_ms = (time.monotonic_ns() - began_ns) / 1e6
    refused = bool(hand.ask_to_arm())
    hand.run(0.2)  # with lease and commands
    stayed = hand.newest.state is FirmwareState.ESTOP and hand.until(hand.standing)
    hand.leased = False
    hand.follow(None)
    cleared = stopped and hand.clear()
    if cleared:
        hand.rest()
    sound = stopped and took_ms <= ESTOP_MS and refused and stayed and cleared
    words = [
        f"after {took_ms:.1f} ms" if stopped else "NOT STOPPED",
        "ARM refused" if refused else "ARM NOT REFUSED",
        "stayed off" if stayed else "DID NOT STAY OFF",
    ]
    result, found = _judged(sound, motionless, ", ".join(words))
    return Check("emergency stop", result, found, f"within {ESTOP_MS} ms, latched")


def slowly(hand: Hand, way: int) -> Path:
    """Wheels that way, joints to and fro, on the side of where they are that has more room."""
    parts = [_swing(axis, at) if axis.mode is AxisMode.POSITION else (0.0, way * SLOW * axis.max_speed, 0.0)
             for axis, at in zip(hand.axes, hand.newest.position, strict=True)]  # fmt: skip

    def path(seconds: float) -> list[float]:
        targets = []
        for start, rate, reach in parts:
            if reach == 0.0:
                targets.append(start + rate)
            else:
                gone = abs(rate) * seconds % (2 * reach)
                targets.append(start + (1 if rate > 0 else -1) * min(gone, 2 * reach - gone))
        return targets

    return path


def _swing(axis: Axis, at: float) -> tuple[float, float, float]:
    """Where from, how fast (rad/s, with the way), and how far."""
    up, down = max(0.0, axis.high - at), max(0.0, at - axis.low)
    return at, (SLOW if up >= down else -SLOW) * axis.max_speed, min(SWING, max(up, down, 1e-6))


def _speeds(hand: Hand) -> tuple[Result, str]:
    """All at once."""
    start = hand.newest.position
    targets = []
    for axis, at in zip(hand.axes, start, strict=True):
        if axis.mode is AxisMode.POSITION:
            _, rate, reach = _swing(axis, at)
            targets.append(at + (reach if rate > 0 else -reach))
        else:
            targets.append(2 * axis.max_speed)
    hand.begin(lambda _: targets)
    hand.run(0.4 + min(2.0, max(axis.max_speed / axis.max_acceleration for axis in hand.axes)))
    wheels = {i for i, axis in enumerate(hand.axes) if axis.mode is AxisMode.VELOCITY}
    told = hand.newest.clamped is None or frozenset().union(*(r.clamped or () for r in hand.seen)) >= wheels
    tops = [hand.fastest(i) for i in range(len(hand.axes))]
    within = all(top <= OVERSHOOT * axis.max_speed + STILL for top, axis in zip(tops, hand.axes, strict=True))
    motionless = hand.motionless()
    hand.rest()
    pairs = zip(tops, hand.axes, strict=True)
    found = ", ".join(f"{axis.name} {top:.3g} of {axis.max_speed:.3g} {_per_second(axis)}" for top, axis in pairs)
    return _judged(told and within, motionless, found + ("" if told else ", NOT REPORTED AS CLAMPED"))


def _range(hand: Hand, number: int) -> tuple[Result, str]:
    """Of a joint: slowly to its nearer end and beyond, and back."""
    axis, start = hand.axes[number], hand.newest.position
    at = start[number]
    way = 1 if axis.high - at <= at - axis.low else -1
    end = axis.high if way > 0 else axis.low
    reach, rate = abs(end - at) + BEYOND, SLOW * axis.max_speed

    def sent(gone: float) -> Sequence[float]:
        return [*start[:number], at + way * min(reach, max(0.0, gone)), *start[number + 1 :]]

    hand.begin(lambda seconds: sent(rate * seconds))
    hand.run(reach / rate + 0.3)
    told = hand.newest.clamped is None or number in hand.newest.clamped
    farthest = max(way * report.position[number] for report in hand.seen) * way
    moved = hand.moved(number)
    hand.follow(lambda seconds: sent(reach - rate * seconds))
    hand.run(reach / rate + 0.2)
    hand.rest()
    sound = told and way * (farthest - end) <= PLAY
    found = f"{axis.name} to {farthest:.3f} of {end:.3f} {axis.unit}{'' if told else ', NOT REPORTED AS CLAMPED'}"
    return _judged(sound, "" if moved else axis.name, found)


def _set_moving(hand: Hand, way: int) -> None:
    hand.begin(slowly(hand, way))
    hand.run(0.4)


def _stopped(hand: Hand, name: str, cause: str, due: Callable[[], int]) -> Check:
    """due: when the stop has to begin."""
    motionless = hand.motionless()
    slowest_stop_s = max(axis.max_speed / axis.max_acceleration for axis in hand.axes)
    stopped = hand.until(lambda: hand.newest.state is not FirmwareState.ACTIVE)
    first = next((report for report in hand.seen if report.state is not FirmwareState.ACTIVE), hand.newest)
    late_ms = hand.late_ms(first.at, due())
    still = hand.until(hand.standing, 1.0 + slowest_stop_s)
    hand.forget()
    hand.run(0.1)
    still = still and hand.standing() and hand.newest.state in _OFF
    hand.rest()
    sound = stopped and abs(late_ms) <= hand.margin_ms and first.cause == cause and still
    how = f"{late_ms:+.1f} ms, {first.cause.replace('_', ' ')}" if stopped else "NOT STOPPED"
    result, found = _judged(sound, motionless, how + ("" if still else ", STILL MOVING"))
    return Check(name, result, found, f"within {hand.margin_ms:g} ms of its end, by itself")


def _judged(sound: bool, motionless: str, found: str) -> tuple[Result, str]:
    """Without a motion that was measured there is no proof, but there may be a failure."""
    if not sound:
        return "failed", found
    if motionless:
        return "not proved", f"{found}, but {motionless} was not seen to move"
    return "proved", found


def _worst(results: Sequence[Result]) -> Result:
    return next((each for each in ("failed", "not proved") if each in results), "proved")


def _per_second(axis: Axis) -> str:
    return f"{axis.unit}/s" if axis.mode is AxisMode.POSITION else axis.unit
