"""The ``world`` command: a simulated rover to develop against, in a process of its own."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from edge.errors import UserError
from edge.worlds.arena_world import serve
from edge.worlds.folder import checked, short_parent
from edge.worlds.wheels import Wheel, load_wheels

_EXAMPLES = """examples:
  latentloop world --folder /tmp/arena
  latentloop run ROBOT.toml        # with camera.source = "world:/tmp/arena/frames" and bridge.port = "/tmp/arena/motors"

exit codes: 0 ended by a signal, 2 bad input
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``world`` command."""
    parser = subparsers.add_parser(
        "world",
        help="run the simulated arena: camera, rover and firmware",
        description="Run the simulated arena in real time: an overhead camera, a rover, and its firmware on a serial line.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--folder", type=Path, help="where its camera, serial line and sockets appear (default: a new one)")
    parser.add_argument("--seed", type=int, default=0, help="of the start pose and all noise (default: %(default)s)")
    parser.add_argument("--fps", type=float, default=30.0, help="of the camera (default: %(default)s)")
    parser.add_argument("--firmware", choices=("c", "python"), default="c", help="which firmware (default: %(default)s)")
    parser.add_argument("--wheels", type=Path, metavar="FILE", help="TOML of wheels with faults, to calibrate (default: perfect)")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input ends")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if not 1.0 <= args.fps <= 120.0:
        raise UserError(f"--fps is {args.fps:g} and must lie between 1 and 120")
    wheels = (Wheel(), Wheel()) if args.wheels is None else load_wheels(args.wheels)
    folder = checked(args.folder or Path(tempfile.mkdtemp(prefix="latentloop-world-", dir=short_parent())))
    try:
        return serve(
            folder, seed=args.seed, fps=args.fps, firmware=args.firmware, with_parent=args.with_parent, wheels=wheels
        )
    except OSError as error:
        raise UserError(f"the world's folder {folder} cannot be used ({error.strerror}): choose a writable one") from None
