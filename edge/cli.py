"""The command line: finds every subcommand by its entry point and dispatches."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points, version

from edge.errors import UserError
from firmware_bridge.controller import BridgeError

Register = Callable[["argparse._SubParsersAction[argparse.ArgumentParser]"], None]

GROUP = "latentloop.commands"
ORDER = ("demo", "run", "watch", "calibrate", "export", "engines", "bridge", "bench", "memory", "doctor", "world")

_EXAMPLES = """start here:
  latentloop demo                    a simulated rover driven by its world model, with the status page
  latentloop watch 0                 watch the first camera of this machine
  latentloop run robot.toml          drive a robot
  latentloop doctor                  what this machine has, and what is missing

exit codes: 0 all well, 1 a problem was found, 2 bad input, 130 ended by Ctrl-C
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser with all subcommands that are installed."""
    parser = argparse.ArgumentParser(
        prog="latentloop",
        description="Run a world model on the machine that needs it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"latentloop {version('latentloop')}")
    parser.set_defaults(run=None)
    subparsers = parser.add_subparsers(metavar="COMMAND")
    rank = {name: place for place, name in enumerate(ORDER)}
    for entry in sorted(entry_points(group=GROUP), key=lambda e: (rank.get(e.name, len(ORDER)), e.name)):
        try:
            register: Register = entry.load()
        except (ImportError, AttributeError, OSError) as error:  # OSError: a shared library that is missing
            register = _unusable(entry.name, error)
        register(subparsers)
    return parser


def _unusable(name: str, error: Exception) -> Register:
    """A stand-in for a command that cannot be imported, so that one missing package does not take the others down."""
    why = " ".join(str(error).split())

    def run(args: argparse.Namespace) -> int:
        raise UserError(f"the command '{name}' cannot be loaded ({why}): run 'latentloop doctor' to see what is missing")

    def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
        parser = subparsers.add_parser(name, help="cannot be loaded: run 'latentloop doctor'", prefix_chars="\0", add_help=False)
        parser.add_argument("ignored", nargs="*")
        parser.set_defaults(run=run)

    return register


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = make_parser()
    args = parser.parse_args(arguments)
    if args.run is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except (UserError, BridgeError) as error:
        print(f"latentloop: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


if __name__ == "__main__":
    sys.exit(main())
