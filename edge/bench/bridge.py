"""``latentloop bench bridge``: what the bridge costs, and how soon the motors stop when their host dies or freezes."""

from __future__ import annotations

import argparse
import json
import sys

from edge.errors import UserError
from firmware_bridge import measure

_EXAMPLES = """examples:
  latentloop bench bridge --only calls
  latentloop bench bridge --only steady --seconds 600     six axes, 200 commands a second, ten minutes
  latentloop bench bridge --only stops --trials 100
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bench bridge``."""
    parser = subparsers.add_parser(
        "bridge",
        help="the serial bridge: round trip, processor time, losses, safe stops",
        description="Measure the bridge with the real firmware on a pseudo-terminal; prints JSON.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    measure.add_arguments(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.seconds < 1 or not 1 <= args.hz <= 200 or args.trials < 1:
        raise UserError("bench bridge needs --seconds and --trials of 1 or more and --hz from 1 to 200: correct that")
    print(json.dumps(measure.measured(args, lambda text: print(f"\r{text} ", end="", file=sys.stderr)), indent=2))
    return 0
