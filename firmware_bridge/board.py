"""What a board is built for: its axes and the limits that no host can raise.

The C header of the board is generated from here, so that both firmwares have the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

from firmware_bridge.messages import Axis, Mode, limits_crc


@dataclass(frozen=True, slots=True)
class Board:
    """axes: names. max_speed: mrad/s per axis. max_acceleration: mrad/s^2 per axis, also the deceleration of a stop.

    lease_cap_us: longest lease. horizon_us: a lease or command that reaches further into the future is refused, the
    host's idea of device time must be wrong. engage_within_us: so soon after ARM the loop has to engage.
    disengaged_leases: so many leases in a row without ``engaged`` end ACTIVE. reject_limit: so many refused commands
    in a row end ACTIVE. max_tick_us: a longer pause between two ticks counts as this much for the slew.
    """

    axes: tuple[str, ...]
    max_speed: tuple[int, ...]
    max_acceleration: tuple[int, ...]
    lease_cap_us: int = 500_000
    horizon_us: int = 2_000_000
    engage_within_us: int = 1_000_000
    disengaged_leases: int = 3
    reject_limit: int = 5
    max_tick_us: int = 20_000

    def axis(self, index: int) -> Axis:
        name = self.axes[index].encode()
        return Axis(index, Mode.VELOCITY, self.max_speed[index], self.max_acceleration[index], name.ljust(16, b"\0"))

    @property
    def limits_crc(self) -> int:
        return limits_crc(self.lease_cap_us, [self.axis(i) for i in range(len(self.axes))])


ROVER = Board(axes=("left", "right"), max_speed=(20_000, 20_000), max_acceleration=(400_000, 400_000))
