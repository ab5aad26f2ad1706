"""The ``calibrate`` command: measure the real world before it is trusted."""

from __future__ import annotations

import argparse

from calibration import alarms


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``calibrate`` command."""
    parser = subparsers.add_parser(
        "calibrate",
        help="learn what is normal in front of a camera",
        description="Measure the real world: what is normal in front of a camera.",
    )
    inner = parser.add_subparsers(metavar="WHAT", required=True)
    alarms.register(inner)
