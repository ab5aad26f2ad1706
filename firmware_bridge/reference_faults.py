"""Faults of the reference firmware that follow from what is measured."""

from __future__ import annotations

from collections.abc import Sequence

from firmware_bridge.messages import Drive, Fault, Mode, Parameter
from firmware_bridge.reference_motion import AxisMotion
from firmware_bridge.reference_settings import Settings


class _Lasting:
    """Whether a condition has lasted for some time already, without a break."""

    def __init__(self) -> None:
        self._already_us = 0

    def after(self, present: bool, elapsed_us: int, ms: int) -> bool:
        if not present:
            self._already_us = 0
        elif self._already_us < 1000 * ms:
            self._already_us += elapsed_us
        return present and self._already_us >= 1000 * ms


class MeasuredFaults:
    """One look per control step at supply, currents and encoders."""

    def __init__(self, axes: int) -> None:
        self._supply = _Lasting()
        self._currents = [_Lasting() for _ in range(axes)]
        self._encoders = [_Lasting() for _ in range(axes)]

    def look(
        self,
        settings: Settings,
        motions: Sequence[AxisMotion],
        drives: Sequence[Drive],
        measured: Sequence[tuple[int, int, int]],
        supply_mv: int,
        elapsed_us: int,
    ) -> int:
        """The faults present now. measured: position in mrad, velocity in mrad/s and current in mA per axis."""
        found = 0
        low = 0 < supply_mv < settings.of_device(Parameter.UNDER_VOLTAGE_MV)
        if self._supply.after(low, elapsed_us, settings.of_device(Parameter.UNDER_VOLTAGE_MS)):
            found |= Fault.UNDER_VOLTAGE
        for i, (motion, drive, (position, velocity, current)) in enumerate(zip(motions, drives, measured, strict=True)):
            most = settings.of_axis(Parameter.OVER_CURRENT_MA, i)
            over = most != 0 and abs(current) > most
            if self._currents[i].after(over, elapsed_us, settings.of_device(Parameter.OVER_CURRENT_MS)):
                found |= Fault.OVER_CURRENT
            most = settings.of_axis(Parameter.ENCODER_LIMIT, i)
            is_now = velocity if motion.mode is Mode.VELOCITY else position
            lost = most != 0 and drive is Drive.ON and abs(is_now - motion.output) > most
            if self._encoders[i].after(lost, elapsed_us, settings.of_device(Parameter.ENCODER_MS)):
                found |= Fault.ENCODER
        return int(found)
