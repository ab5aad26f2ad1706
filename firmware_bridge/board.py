"""What a board is built for: its axes and the limits that no host can raise.

The C header of a board is generated from here, so that both firmwares have the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from firmware_bridge.messages import Axis, Mode, Parameter, StopPolicy, limits_crc

LARGEST_SPEED = 1 << 21
"""mrad/s. With these three the firmware's 64-bit arithmetic cannot overflow."""
LARGEST_ACCELERATION = 1 << 22
"""mrad/s^2."""
LARGEST_POSITION = 1 << 26
"""mrad, in either direction."""
SHORTEST_LEASE_CAP_MS = 50


@dataclass(frozen=True, slots=True)
class AxisLimits:
    """max_speed: mrad/s. max_acceleration: mrad/s^2. min_position, max_position: mrad, both 0 for a velocity axis."""

    max_speed: int
    max_acceleration: int
    min_position: int = 0
    max_position: int = 0

    def of(self, parameter: Parameter) -> int:
        """One of them by its number."""
        return {
            Parameter.MAX_SPEED: self.max_speed,
            Parameter.MAX_ACCELERATION: self.max_acceleration,
            Parameter.MIN_POSITION: self.min_position,
            Parameter.MAX_POSITION: self.max_position,
        }[parameter]

    def range(self, parameter: Parameter) -> tuple[int, int]:
        """What LIMITS_SET takes, these being compiled in."""
        if parameter in (Parameter.MIN_POSITION, Parameter.MAX_POSITION):
            return self.min_position, self.max_position
        return int(parameter is Parameter.MAX_ACCELERATION), self.of(parameter)


@dataclass(frozen=True, slots=True)
class BoardAxis:
    """One axis as it is compiled in.

    stop_policy: after a stop; release_after_ms is for RELEASE. over_current_ma: mA, 0 = never. encoder_limit: how far
    measurement and output may be apart, mrad/s for a velocity axis and mrad for a position axis, 0 = any. Where the two
    thresholds are set here, a host can lower but not remove them.
    """

    name: str
    mode: Mode
    limits: AxisLimits
    stop_policy: StopPolicy = StopPolicy.COAST
    release_after_ms: int = 0
    over_current_ma: int = 0
    encoder_limit: int = 0

    def __post_init__(self) -> None:
        low, high = self.limits.min_position, self.limits.max_position
        fits = (
            0 < self.limits.max_speed <= LARGEST_SPEED
            and 0 < self.limits.max_acceleration <= LARGEST_ACCELERATION
            and -LARGEST_POSITION <= low <= high <= LARGEST_POSITION
            and (self.mode is Mode.POSITION or low == high == 0)
            and len(self.name.encode()) <= 16
        )
        if not fits:
            raise ValueError(f"the limits of axis {self.name} are out of range: {self.limits}")


@dataclass(frozen=True, slots=True)
class Board:
    """trajectory_points: room in the buffer, 0 compiles trajectories out. commit_us: motion this near is not replaced.

    lease_cap_us: longest lease. horizon_us: a lease, command or point that reaches further into the future is refused,
    the host's idea of device time must be wrong. engage_within_us: so soon after ARM the loop has to engage.
    disengaged_leases: so many leases in a row without ``engaged`` end ACTIVE. reject_limit: so many refused commands
    in a row end ACTIVE. max_tick_us: a longer pause between two ticks counts as this much for motion. The times with
    ``_ms`` are parameters: how long a condition must last to be a fault, and how long a trajectory that ended in motion
    may go on. under_voltage_mv: 0 = never a fault.
    """

    parts: tuple[BoardAxis, ...]
    trajectory_points: int = 0
    commit_us: int = 20_000
    lease_cap_us: int = 500_000
    horizon_us: int = 2_000_000
    engage_within_us: int = 1_000_000
    disengaged_leases: int = 3
    reject_limit: int = 5
    max_tick_us: int = 20_000
    over_current_ms: int = 50
    encoder_ms: int = 200
    under_voltage_mv: int = 0
    under_voltage_ms: int = 100
    underrun_ms: int = 40
    limits: tuple[AxisLimits, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "limits", tuple(part.limits for part in self.parts))

    @property
    def axes(self) -> tuple[str, ...]:
        return tuple(part.name for part in self.parts)

    @property
    def max_speed(self) -> tuple[int, ...]:
        return tuple(part.limits.max_speed for part in self.parts)

    @property
    def max_acceleration(self) -> tuple[int, ...]:
        return tuple(part.limits.max_acceleration for part in self.parts)

    def axis(self, index: int, limits: AxisLimits | None = None) -> Axis:
        """AXIS as the device tells it, with the limits in force (None: those compiled in)."""
        part = self.parts[index]
        now = limits or part.limits
        name = part.name.encode().ljust(16, b"\0")
        return Axis(
            index, part.mode, now.max_speed, now.max_acceleration, now.min_position, now.max_position, name
        )  # fmt: skip

    @property
    def limits_crc(self) -> int:
        """With the limits compiled in."""
        return limits_crc(self.lease_cap_us, [self.axis(i) for i in range(len(self.parts))])

    def compiled(self, parameter: Parameter, axis: int) -> int:
        """The value of a parameter at the start of the firmware."""
        if parameter.is_limit:
            return self.limits[axis].of(parameter)
        return {
            Parameter.STOP_POLICY: self.parts[axis].stop_policy,
            Parameter.RELEASE_AFTER_MS: self.parts[axis].release_after_ms,
            Parameter.OVER_CURRENT_MA: self.parts[axis].over_current_ma,
            Parameter.ENCODER_LIMIT: self.parts[axis].encoder_limit,
            Parameter.OVER_CURRENT_MS: self.over_current_ms,
            Parameter.ENCODER_MS: self.encoder_ms,
            Parameter.UNDER_VOLTAGE_MV: self.under_voltage_mv,
            Parameter.UNDER_VOLTAGE_MS: self.under_voltage_ms,
            Parameter.LEASE_CAP_MS: self.lease_cap_us // 1000,
            Parameter.UNDERRUN_MS: self.underrun_ms,
        }[parameter]

    def range(self, parameter: Parameter, axis: int) -> tuple[int, int]:
        """The values a host may set: only such as make the device more careful, and any stop policy."""
        built_in = int(self.compiled(parameter, axis))
        if parameter.is_limit:
            return self.limits[axis].range(parameter)
        if parameter is Parameter.STOP_POLICY:
            return 0, int(StopPolicy.RELEASE)
        if parameter is Parameter.RELEASE_AFTER_MS:
            return 0, 60_000
        if parameter is Parameter.UNDER_VOLTAGE_MV:
            return built_in, 65_535
        if parameter in (Parameter.OVER_CURRENT_MA, Parameter.ENCODER_LIMIT):
            return (1, built_in) if built_in else (0, 1_000_000)
        return (SHORTEST_LEASE_CAP_MS if parameter is Parameter.LEASE_CAP_MS else 0), built_in


def _wheel(name: str) -> BoardAxis:
    return BoardAxis(name, Mode.VELOCITY, AxisLimits(20_000, 400_000), StopPolicy.BRAKE)


def _joint(name: str, reach: int) -> BoardAxis:
    limits = AxisLimits(max_speed=4_000, max_acceleration=20_000, min_position=-reach, max_position=reach)
    return BoardAxis(name, Mode.POSITION, limits, StopPolicy.HOLD)


ROVER = Board((_wheel("left"), _wheel("right")))
ARM = Board(
    (
        _joint("pan", 1_920), _joint("lift", 1_745), _joint("elbow", 1_745), _joint("flex", 1_658),
        _joint("roll", 2_744), _joint("gripper", 1_745),
    ),
    trajectory_points=32,
    underrun_ms=0,
)  # fmt: skip
BOARDS = {"rover": ROVER, "arm": ARM}
