"""The ``demo`` command: the whole runtime on a simulated rover, no hardware needed.

Three processes: the arena (physics and camera), the firmware on a serial line, and this runtime, which sees only pixels
and serial telemetry and drives the rover to pictures that it is shown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from edge.config import RobotConfig, convert
from edge.errors import UserError
from edge.run import described, drive
from edge.worlds.folder import short_parent

NORMAL = Path(__file__).parent / "worlds" / "arena_normal"
"""What is normal in the arena; made anew for a new bundle with ``latentloop demo --headless --seconds 300 --learn FOLDER``."""

_EXAMPLES = """examples:
  latentloop demo                                   open the page that it prints
  latentloop demo --headless --seconds 60 --json    one minute, then the figures

The rover is simulated, so the demo arms it by itself, also after a fault. Ctrl-C ends everything.
exit codes: 0 all well, 1 the demo could not run, 2 bad input
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``demo`` command."""
    parser = subparsers.add_parser(
        "demo",
        help="a simulated rover, driven by its world model",
        description="Drive a simulated rover with the INT8 world model, over a real serial line, with the status page.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, metavar="N", help="end after so long (default: when told to)")
    parser.add_argument("--headless", action="store_true", help="no status page")
    parser.add_argument("--port", type=int, default=8420, help="of the status page (default: %(default)s)")
    parser.add_argument("--bundle", default="rover", help="the rover's bundle (default: %(default)s)")
    parser.add_argument("--precision", choices=("int8", "fp32"), default="int8", help="of the engines (default: %(default)s)")
    parser.add_argument("--firmware", choices=("c", "python"), default="c", help="which firmware (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the world (default: %(default)s)")
    parser.add_argument("--memory", type=Path, help="keep the memory there (default: forget it afterwards)")
    parser.add_argument("--learn", type=Path, metavar="FOLDER", help="learn from this drive what is normal, and keep it there")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="latentloop-demo-", dir=short_parent()) as name:
        folder = Path(name)
        config = demo_config(args, folder)
        with World(folder, args.seed, args.firmware):
            summary = drive(
                config, folder, arm=True, seconds=args.seconds, quiet=args.json, learn=args.learn, simulated=True
            )
    print(json.dumps(summary, indent=2) if args.json else described(summary))
    return 0


def demo_config(args: argparse.Namespace, folder: Path) -> RobotConfig:
    """The robot file that a user would write for this world."""
    bundle = Path(args.bundle)
    calibration = NORMAL if args.bundle == "rover" and args.learn is None and NORMAL.is_dir() else ""
    data: dict[str, Any] = {
        "name": "Arena rover (simulated)",
        "bundle": str(bundle.resolve()) if bundle.is_dir() else args.bundle,
        "calibration": str(calibration),
        "camera": {"source": "world:frames"},
        # Simulated wheels harm nobody, and a browser that starts beside the demo can hold up a small machine this long.
        "bridge": {"port": "motors", "lease_ms": 250},
        "goals": {"source": "world:goals"},
        "engine": {"precision": args.precision},
        "memory": {"folder": str(args.memory.resolve()) if args.memory else "memory"},
        "dashboard": {"enabled": not args.headless, "port": args.port},
    }
    return convert(data, RobotConfig, "the demo's configuration")


class World:
    """``latentloop world`` as a child process; it ends when this process does, however that happens."""

    def __init__(self, folder: Path, seed: int = 0, firmware: str = "c", wheels: Path | None = None) -> None:
        self._folder = folder
        self._options = ["--seed", str(seed), "--firmware", firmware, *(() if wheels is None else ("--wheels", str(wheels)))]
        self.firmware = ""
        self.pid = 0

    def __enter__(self) -> World:
        """Start it and wait until camera and motors are there. Raises UserError."""
        command = (sys.executable, "-m", "edge.cli", "world", "--folder", str(self._folder), "--with-parent", *self._options)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the runtime, which stops the motors first
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()  # standard error goes straight to the person
        if not line:
            raise UserError(f"the simulated world did not start (exit code {self._process.wait()}): its message stands above")
        hello = json.loads(line)
        self.firmware, self.pid = hello["firmware"], hello["pid"]
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
