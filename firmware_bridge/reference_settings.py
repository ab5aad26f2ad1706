"""Limits and parameters of the reference firmware: what is compiled in, and what a host may make of it."""

from __future__ import annotations

from firmware_bridge import messages
from firmware_bridge.board import AxisLimits, Board
from firmware_bridge.codes import AXIS_PARAMETERS, DEVICE_PARAMETERS
from firmware_bridge.messages import Axis, Code, LimitsSet, Parameter


class Settings:
    """In force from now until the restart of the firmware."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self.limits = list(board.limits)
        self._values = {
            (parameter, axis): int(board.compiled(parameter, axis))
            for parameter in (*AXIS_PARAMETERS, *DEVICE_PARAMETERS)
            for axis in (range(len(board.parts)) if parameter.per_axis else (0,))
        }

    def of_axis(self, parameter: Parameter, axis: int) -> int:
        return self._values[parameter, axis]

    def of_device(self, parameter: Parameter) -> int:
        return self._values[parameter, 0]

    @property
    def lease_cap_us(self) -> int:
        return 1000 * self.of_device(Parameter.LEASE_CAP_MS)

    def axis(self, index: int) -> Axis:
        return self._board.axis(index, self.limits[index])

    def limits_crc(self) -> int:
        return messages.limits_crc(self.lease_cap_us, [self.axis(i) for i in range(len(self.limits))])

    def set_limits(self, m: LimitsSet) -> Code:
        if m.axis >= len(self.limits):
            return Code.BAD_AXIS
        compiled = self._board.limits[m.axis]
        fits = (
            m.max_speed <= compiled.max_speed
            and 0 < m.max_acceleration <= compiled.max_acceleration
            and compiled.min_position <= m.min_position <= m.max_position <= compiled.max_position
        )
        if not fits:
            return Code.BAD_VALUE
        self.limits[m.axis] = AxisLimits(m.max_speed, m.max_acceleration, m.min_position, m.max_position)
        return Code.OK

    def describe(self, number: int, axis: int) -> messages.Param | None:
        """PARAM; None if there is no such parameter or axis."""
        if number not in [int(p) for p in Parameter]:
            return None
        parameter = Parameter(number)
        if parameter.is_limit and axis < len(self.limits):
            value = self.limits[axis].of(parameter)
        elif (parameter, axis) in self._values:
            value = self._values[parameter, axis]
        else:
            return None
        return messages.Param(number, axis, value, *self._board.range(parameter, axis))

    def set(self, number: int, axis: int, value: int) -> Code:
        known = self.describe(number, axis)
        if known is None or Parameter(number).is_limit:
            return Code.BAD_PARAMETER
        if not known.low <= value <= known.high:
            return Code.BAD_VALUE
        self._values[Parameter(number), axis] = value
        return Code.OK
