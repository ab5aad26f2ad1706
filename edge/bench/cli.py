"""The ``bench`` command: every published figure comes from one of its subcommands."""

from __future__ import annotations

import argparse
import importlib

_EXAMPLES = """examples:
  latentloop bench engines
  latentloop bench engines --bundle rover --json
  latentloop bench motors --fault sign
"""
# Each has register(subparsers); a module whose packages are missing would otherwise take the others down with it.
_MODULES = ("engines", "world", "motors", "watch", "kill")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``bench`` command."""
    parser = subparsers.add_parser(
        "bench",
        help="measure engines, the closed loop and anomaly detection",
        description="Measure, and print what was measured. --json prints the figures for machines.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inner = parser.add_subparsers(metavar="WHAT", required=True)
    for name in _MODULES:
        importlib.import_module(f"edge.bench.{name}").register(inner)
