"""The ``bridge`` command: what is on the serial ports, and does it keep to its word?"""

from __future__ import annotations

import argparse
import importlib

_EXAMPLES = """examples:
  latentloop bridge scan                         the serial ports, and who has them open
  latentloop bridge scan --ask                   and who answers; wheels off the ground
  latentloop bridge info /dev/ttyACM0
  latentloop bridge monitor /dev/ttyACM0         what it measures, as it comes
  latentloop bridge settings /dev/ttyACM0        its limits and parameters; left.speed=5 sets one
  latentloop bridge selftest /dev/ttyACM0        does it stop when it has to? wheels off the ground
  latentloop bridge jog /dev/ttyACM0 left        turn one wheel while a key is held
  latentloop bridge flash-help rp2040            how the firmware gets onto a board
"""
_MODULES = ("scan", "info", "settings", "selftest", "jog", "monitor", "flash_help")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``bridge`` command."""
    parser = subparsers.add_parser(
        "bridge",
        help="find, look at and test motor controllers",
        description="Motor controllers on serial ports, without a robot file.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inner = parser.add_subparsers(metavar="WHAT", required=True)
    for name in _MODULES:
        importlib.import_module(f"edge.bridge.{name}").register(inner)
