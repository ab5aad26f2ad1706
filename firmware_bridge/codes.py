"""The numbers of the protocol and what they mean: states, answers, causes, faults, modes, policies, parameters."""

from __future__ import annotations

from enum import IntEnum, IntFlag


class Explained(IntEnum):
    """A number with its meaning, which the tables of docs/protocol.md print."""

    means: str

    def __new__(cls, value: int, means: str = "") -> Explained:
        member = int.__new__(cls, value)
        member._value_ = value
        member.means = means
        return member


class State(Explained):
    """The firmware's states as they appear on the wire. OFFLINE never does: it is the host's word for no device."""

    OFFLINE = 0, "the host's own word for no device; never sent"
    IDLE = 1, "off; waits for HELLO"
    LINKED = 2, "a host is there; off, or held where a stop left it"
    ACTIVE = 3, "armed: follows targets and trajectories"
    SAFE_STOP = 4, "a stop in progress: ramps to zero"
    SAFE = 5, "has stopped by itself, axes as their stop policies say; wants a new ARM"
    ESTOP = 6, "emergency stop, latched; off"
    FAULT = 7, "something is broken, latched; off"
    BOOT = 8, "before the first control step, deaf to all but ESTOP; off; never sent"


class Code(Explained):
    """What an ACK says about the frame it answers."""

    OK = 0, "done"
    BAD_PAYLOAD = 1, "wrong length or a value that makes no sense"
    UNKNOWN_TYPE = 2, "not a message of this device"
    BAD_VERSION = 3, "HELLO asks for versions this device does not speak"
    NO_SESSION = 4, "not the current session; the ACK itself has session 0"
    BAD_STATE = 5, "not in this state"
    LATCHED = 6, "a stop or fault is latched, or still present"
    NO_LEASE = 7, "ARM without a fresh lease"
    WRONG_LIMITS = 8, "ARM with the checksum of other limits"
    WRONG_BOOT = 9, "the device has restarted since"
    BAD_MODE = 10, "a position for a velocity axis, or the other way round"
    BAD_AXIS = 11, "no such axis"
    LATE = 12, "void when it arrived; dropped"
    TOO_EARLY = 13, "too far in the future: the host's idea of device time is wrong"
    WRONG_CHALLENGE = 14, "not the challenge of this very stop"
    BAD_STREAM = 15, "cannot be subscribed to"
    FULL = 16, "no room for these points; nothing was taken"
    BAD_PARAMETER = 17, "no such parameter"
    BAD_VALUE = 18, "outside of what may be set; limits only tighten"


class StopCause(Explained):
    """Why the motors were last stopped."""

    NONE = 0, "since the last ARM nothing has stopped"
    LEASE_EXPIRED = 1, "the host has died, stalled or lost the line"
    COMMAND_EXPIRED = 2, "the host lives, its commands have run out"
    DISENGAGED = 3, "the loop said that it is not commanding"
    DISARMED = 4, "asked for"
    NEW_SESSION = 5, "another host said HELLO"
    REJECTED_COMMANDS = 6, "5 refused commands in a row"
    ESTOP = 7, "message or button"
    FAULT = 8, "see the faults"
    UNDERRUN = 9, "a trajectory ended in motion and nothing followed"


class Fault(IntFlag):
    """Reasons for FAULT, one bit each."""

    OVER_CURRENT = 1
    UNDER_VOLTAGE = 2
    ENCODER = 4
    WATCHDOG_RESET = 8
    DRIVER_LOST = 16


FAULT_MEANS = {
    Fault.OVER_CURRENT: "an axis draws more than OVER_CURRENT_MA for OVER_CURRENT_MS",
    Fault.UNDER_VOLTAGE: "the supply is measured and below UNDER_VOLTAGE_MV for UNDER_VOLTAGE_MS",
    Fault.ENCODER: "a powered axis is not where, or not as fast as, it should be: by ENCODER_LIMIT for ENCODER_MS",
    Fault.WATCHDOG_RESET: "the firmware was restarted by its watchdog",
    Fault.DRIVER_LOST: "the motor driver does not answer; from the port",
}


class Mode(Explained):
    """What an axis is commanded by."""

    VELOCITY = 1, "mrad/s"
    POSITION = 2, "mrad"


class Drive(Explained):
    """What the motor driver has to do with an axis."""

    OFF = 0, "no current: the axis coasts, an arm falls"
    ON = 1, "follow the output"
    BRAKE = 2, "short the windings"


class StopPolicy(Explained):
    """What becomes of an axis once a stop has ramped it down."""

    COAST = 0, "OFF"
    BRAKE = 1, "BRAKE"
    HOLD = 2, "stays ON: at rest, or where it is"
    RELEASE = 3, "stays ON for RELEASE_AFTER_MS, then OFF"


class Parameter(Explained):
    """What PARAM_GET tells. Those below 16 belong to an axis, the others to the device. PARAM_SET sets them, but for 8 to 11: the
    limits, which LIMITS_SET sets together."""

    STOP_POLICY = 0, "see the stop policies"
    RELEASE_AFTER_MS = 1, "for RELEASE"
    OVER_CURRENT_MA = 2, "mA in either direction; 0 = never a fault"
    ENCODER_LIMIT = 3, "difference of measurement and output, mrad/s or mrad; 0 = never a fault"
    MAX_SPEED = 8, "as in AXIS; to be read only, LIMITS_SET sets it"
    MAX_ACCELERATION = 9, "the same"
    MIN_POSITION = 10, "the same"
    MAX_POSITION = 11, "the same"
    OVER_CURRENT_MS = 16, "for so long without a break"
    ENCODER_MS = 17, "for so long without a break"
    UNDER_VOLTAGE_MV = 18, "mV; 0 = never a fault"
    UNDER_VOLTAGE_MS = 19, "for so long without a break"
    LEASE_CAP_MS = 20, "longest lease; a part of `limits_crc`"
    UNDERRUN_MS = 21, "a trajectory that ended in motion goes on for so long before it is stopped"

    @property
    def per_axis(self) -> bool:
        return self < 16

    @property
    def is_limit(self) -> bool:
        return 8 <= self < 16


AXIS_PARAMETERS = tuple(p for p in Parameter if p.per_axis and not p.is_limit)
"""Those that PARAM_SET sets."""
DEVICE_PARAMETERS = tuple(p for p in Parameter if not p.per_axis)
