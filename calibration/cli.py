"""The ``calibrate`` command: measure the real world before it is trusted."""

from __future__ import annotations

import argparse
from importlib.metadata import entry_points

from calibration import alarms, camera, motors

PLUGINS = "latentloop.calibrations"
"""Entry points of this group add subcommands that need more than calibration may import: ``register(subparsers)``."""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``calibrate`` command."""
    parser = subparsers.add_parser(
        "calibrate",
        help="measure a camera and motors, and learn what is normal in front of the camera",
        description="Measure the real world: a camera, what is normal in front of it, and motors.",
    )
    inner = parser.add_subparsers(metavar="WHAT", required=True)
    alarms.register(inner)
    camera.register(inner)
    motors.register(inner)
    for entry in sorted(entry_points(group=PLUGINS), key=lambda entry: entry.name):
        entry.load()(inner)
