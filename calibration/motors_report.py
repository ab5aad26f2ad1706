"""What was found out about the motors, in words, as JSON and as notes in the robot file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from calibration.axis_found import Found, Way
from calibration.robot_file import Entry
from edge.worlds.wheels import Wheel


def entry(found: Found, measured: str) -> Entry:
    """For the robot file, with what is known of the certainty."""
    notes = {
        "reversed": "a positive command turns it " + ("backward" if found.reversed else "forward"),
        "encoder_reversed": "seen by a person" if found.forward is not None else "believed, nobody looked",
        "max_slew": "rad/s^2, the motor's own limit",
        "latency_ms": f"± {1e3 * _delay_error(found):.1f}, from a command to the first motion",
    }
    for name, way in found.ways.items():
        notes[f"{name}.dead_band"] = f"± {way.dead_band_error:.2f} over {len(way.dead_bands)} ramps"
        notes[f"{name}.friction"] = "speed = gain * (command - friction), rad/s"
        notes[f"{name}.gain"] = f"± {way.line.gain_error:.4f}, R² {way.line.r_squared:.4f} over {len(way.climb.speeds)} speeds"
        notes[f"{name}.max_speed"] = "rad/s, " + ("all it can do" if way.climb.saturated else "all that may be commanded")
    return Entry(found.config(measured), notes)


def in_words(found: Found) -> str:
    """A few lines for the terminal."""
    config = found.config("")
    turns = "turns backward on a positive command" if found.reversed else "turns forward on a positive command"
    counts = "its encoder counts backward" if found.encoder_reversed else "its encoder counts forward"
    slew = "as fast as the firmware allows" if config.max_slew is None else f"by up to {config.max_slew:.0f} rad/s² and no faster"
    lines = [
        f"{found.name}: {turns}, {counts}; noise at rest {1e3 * found.noise_rad:.2f} mrad",
        f"  answers after {config.latency_ms:.0f} ± {1e3 * _delay_error(found):.1f} ms, time constant "
        f"{config.time_constant_ms:.0f} ms, changes speed {slew}",
    ]
    for name, way in found.ways.items():
        used = config.forward if name == "forward" else config.backward
        band = f"{used.dead_band:.2f} ± {way.dead_band_error:.2f}" if used.dead_band else "none"
        lines.append(
            f"  {name:8} dead band {band}; speed = {used.gain:.3f} ± {way.line.gain_error:.3f} * (command - {used.friction:.2f}), "
            f"R² {way.line.r_squared:.4f}; up to {used.max_speed:.1f} rad/s"
            + (", all it can do" if way.climb.saturated else "")
        )
    return "\n".join(lines)


def as_json(found: Found) -> dict[str, Any]:
    """Everything, SI units but for keys that name theirs."""
    response = found.response
    config: dict[str, Any] = msgspec.to_builtins(found.config(""))
    config.pop("measured")  # the same for all axes
    return {
        **config,
        "seen_by_a_person": found.forward is not None,
        "noise_mrad": 1e3 * found.noise_rad,
        "largest_command": found.commanded,
        "latency_each_ms": (1e3 * response.delays_s).tolist(),
        "latency_error_ms": 1e3 * _delay_error(found),
        "misfit": response.misfit,
        **{f"{name}_measured": _way_json(way) for name, way in found.ways.items()},
    }


def beside_planted(found: Sequence[Found], wheels: Mapping[str, Wheel]) -> str:
    """For a simulated robot: what its wheels are beside what was found."""
    lines = [f"{'':22}{'planted':>10}{'found':>10}"]
    for each in found:
        wheel, config = wheels[each.name], each.config("")
        slew = "none" if config.max_slew is None else f"{config.max_slew:.1f}"
        rows = [
            ("reversed", str(wheel.reversed), str(config.reversed)),
            ("dead band, rad/s", f"{wheel.dead_band:.2f}", f"{config.forward.dead_band:.2f}"),
            ("friction, rad/s", f"{wheel.friction:.2f}", f"{config.forward.friction:.2f}"),
            ("gain", f"{wheel.gain:.3f}", f"{config.forward.gain:.3f}"),
            ("delay, ms", f"{wheel.delay_ms:.0f}", f"{config.latency_ms:.0f}"),
            ("max speed, rad/s", f"{wheel.max_speed:.1f}" if wheel.max_speed < 1e5 else "none", f"{config.forward.max_speed:.1f}"),
            ("max slew, rad/s²", f"{wheel.max_acceleration:.1f}" if wheel.max_acceleration < 1e5 else "none", slew),
        ]
        lines += [f"{each.name:6}{label:16}{planted:>10}{measured:>10}" for label, planted, measured in rows]
    return "\n".join(lines)


def _delay_error(found: Found) -> float:
    return float(np.std(found.response.delays_s))


def _way_json(way: Way) -> dict[str, Any]:
    return {
        "dead_bands": list(way.dead_bands),
        "gain_error": way.line.gain_error,
        "friction": way.line.friction,
        "r_squared": way.line.r_squared,
        "commands": list(way.climb.commands),
        "speeds": list(way.climb.speeds),
        "saturated": way.climb.saturated,
    }
