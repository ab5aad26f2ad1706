"""The ``doctor`` command: what this machine has for latentloop, what is missing, and what to do about it."""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import os
import re
import shutil
import socket
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal, Protocol

from edge.jetson import find_jetson
from edge.state_folder import state_folder

Level = Literal["ok", "note", "problem"]
MayOpen = Callable[[str], bool]

DASHBOARD_PORT = 8420
PACKAGES = {  # module: what pip calls it
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "cv2": "opencv-python-headless",
    "serial": "pyserial",
    "msgspec": "msgspec",
    "starlette": "starlette",
    "uvicorn": "uvicorn",
    "websockets": "websockets",
    "prometheus_client": "prometheus-client",
}
INTEGER_INSTRUCTIONS = {  # as the kernel names them: as people do
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX VNNI",
    "amx_int8": "AMX INT8",
    "asimddp": "NEON dot product",
    "i8mm": "NEON matrix multiply",
}
MB = 1 << 20
_TIME_ERROR = 5  # what adjtimex(2) returns while nothing keeps the clock right


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. level: ``"problem"`` if the demo cannot run, ``"note"`` if something else cannot."""

    check: str
    level: Level
    found: str
    remedy: str = ""


class Port(Protocol):
    """What pyserial's list_ports says of a serial port."""

    device: str
    vid: int | None
    pid: int | None
    description: str


def examine(root: Path = Path("/")) -> Iterator[Finding]:
    """Look at everything, one finding after the other; changes nothing. root: where the system's files lie."""
    jetson = find_jetson(root) is not None
    yield python(sys.version_info[:3])
    yield packages()
    yield from guarded("opencv", lambda: opencv_of_this_environment(jetson))
    yield processor(read(root / "proc/cpuinfo"), len(os.sched_getaffinity(0)))
    yield memory(read(root / "proc/meminfo"))
    yield jetson_release(root)
    yield tensorrt(jetson)
    yield compiler(shutil.which("cc"))
    yield from cameras(root, may_open)
    yield from guarded("serial ports", lambda: serial_ports(list_ports(), may_open))
    yield from guarded("serial ports", lambda: slow_adapters(list_ports(), root / "sys"))
    yield shared_memory(root / "dev/shm")
    yield from guarded("state folder", lambda: state_writable(state_folder()))
    yield sqlite(sqlite3.sqlite_version_info)
    yield from guarded("bundles", lambda: bundles(Path(__file__).parent / "bundles"))
    yield port(DASHBOARD_PORT)
    yield time_synchronised(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)))


def guarded(check: str, look: Callable[[], Finding | Iterator[Finding]]) -> Iterator[Finding]:
    """A look that needs a package which may be missing."""
    try:
        found = look()
        yield from [found] if isinstance(found, Finding) else found
    except ImportError as error:
        yield Finding(check, "problem", f"cannot be looked at: {error}", "install the packages first")


def read(path: Path) -> str:
    """The text of a system file, empty where there is none."""
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def may_open(device: str) -> bool:
    return os.access(device, os.R_OK | os.W_OK)


def join_group(group: str) -> str:
    return f"sudo usermod -aG {group} $USER, then log out and in again"


# -- the programs ------------------------------------------------------------------------------------------------


def python(version: tuple[int, ...]) -> Finding:
    found = f"{'.'.join(map(str, version))} in {sys.prefix}"
    if version < (3, 10):
        return Finding("python", "problem", found, "use Python 3.10 or newer")
    return Finding("python", "ok", found)


def packages() -> Finding:
    """Import every package of the runtime; a broken one is a problem even if pip thinks it is there."""
    there, missing = [], []
    for module, package in PACKAGES.items():
        try:
            found = importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 - one that was built for another numpy raises whatever it likes
            missing.append(f"{package} ({error})")
            continue
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:  # Debian's and NVIDIA's OpenCV go by other names
            version = str(getattr(found, "__version__", "of unknown version"))
        there.append(f"{package} {version}")
    if missing:
        remedy = f"{sys.executable} -m pip install latentloop"
        return Finding("packages", "problem", f"cannot be imported: {', '.join(missing)}", remedy)
    return Finding("packages", "ok", ", ".join(there))


def opencv_of_this_environment(jetson: bool) -> Finding:
    import cv2

    names = metadata.packages_distributions().get("cv2", [])
    return opencv(str(cv2.getBuildInformation()), sorted(set(names)), jetson)


def opencv(build: str, distributions: list[str], jetson: bool) -> Finding:
    """build: cv2.getBuildInformation(), which alone tells whether GStreamer is really in it."""
    has = {name: re.search(rf"^\s*{name}:\s+YES", build, re.MULTILINE) is not None for name in ("GStreamer", "FFMPEG")}
    found = f"GStreamer {'yes' if has['GStreamer'] else 'no'}, FFmpeg {'yes' if has['FFMPEG'] else 'no'}"
    if len(distributions) > 1:
        remedy = f"uninstall all but one of {', '.join(distributions)}: they overwrite each other"
        return Finding("opencv", "note", f"{found}, installed {len(distributions)} times", remedy)
    if not has["FFMPEG"]:
        return Finding("opencv", "note", found, "video files and RTSP need an OpenCV with FFmpeg; USB cameras do not")
    if jetson and not has["GStreamer"]:
        remedy = "CSI cameras need an OpenCV with GStreamer: use the system's in a venv --system-site-packages"
        return Finding("opencv", "note", found, remedy)
    return Finding("opencv", "ok", found)


def tensorrt(jetson: bool) -> Finding:
    """TensorRT comes with JetPack, pycuda from pip; onnxruntime works without them."""
    missing = []
    for module in ("tensorrt", "pycuda"):
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 - a driver that does not fit raises whatever it likes
            missing.append(f"{module} ({str(error).splitlines()[0] if str(error) else type(error).__name__})")
    if not missing:
        return Finding("tensorrt", "ok", "tensorrt and pycuda can be imported")
    found = f"cannot be imported: {', '.join(missing)}"
    if not jetson:
        return Finding("tensorrt", "ok", f"{found}; onnxruntime is used")
    remedy = "make the venv with --system-site-packages so that it sees JetPack's tensorrt, and pip install pycuda"
    return Finding("tensorrt", "note", found, remedy)


def compiler(path: str | None) -> Finding:
    if path is None:
        remedy = "to build or try the C firmware here: apt install gcc libc6-dev"
        return Finding("C compiler", "note", "none: the simulated board runs the Python firmware instead", remedy)
    return Finding("C compiler", "ok", path)


def sqlite(version: tuple[int, ...]) -> Finding:
    """The WAL-reset bug (SQLite's wal.html): 3.7.0 to 3.51.2, also mended in 3.44.6 and 3.50.7."""
    found = ".".join(map(str, version))
    mended = version >= (3, 51, 3) or (3, 44, 6) <= version < (3, 45) or (3, 50, 7) <= version < (3, 51)
    if mended:
        return Finding("sqlite", "ok", found)
    return Finding(
        "sqlite",
        "ok",
        f"{found}, which has the WAL-reset bug; latentloop has one writing connection and is not touched by it",
        "let no other program write to memory.sqlite",
    )


# -- the machine -------------------------------------------------------------------------------------------------


def processor(cpuinfo: str, cores: int) -> Finding:
    """cpuinfo: /proc/cpuinfo. cores: those this process may use."""
    words = set(re.findall(r"^(?:flags|Features)\s*:\s*(.*)$", cpuinfo, re.MULTILINE)[:1])
    flags = set(" ".join(words).split())
    model = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    fast = [name for flag, name in INTEGER_INSTRUCTIONS.items() if flag in flags]
    cores_text = f"{cores} core{'s' if cores != 1 else ''}"
    found = f"{model.group(1) if model else os.uname().machine}, {cores_text}, {', '.join(fast) or 'no INT8 products'}"
    if not fast:
        return Finding("processor", "note", found, "INT8 gains little here; 'latentloop bench' measures how much")
    return Finding("processor", "ok", found)


def memory(meminfo: str) -> Finding:
    """meminfo: /proc/meminfo."""
    sizes = {name: int(kb) * 1024 // MB for name, kb in re.findall(r"^(\w+):\s+(\d+) kB", meminfo, re.MULTILINE)}
    if "MemAvailable" not in sizes:
        return Finding("memory", "note", "unknown", "the runtime needs about 300 MB")
    found = f"{sizes['MemAvailable']} of {sizes.get('MemTotal', 0)} MB available"
    if sizes["MemAvailable"] < 512:
        return Finding("memory", "note", found, "end other programs: the runtime needs about 300 MB and room to work")
    return Finding("memory", "ok", found)


def jetson_release(root: Path) -> Finding:
    jetson = find_jetson(root)
    if jetson is None:
        return Finding("jetson", "ok", "this is not a Jetson")
    model = jetson.model or "Jetson of unknown model"
    if not jetson.l4t:
        return Finding("jetson", "note", f"{model}, no /etc/nv_tegra_release", "in a container: mount it read-only")
    found = f"{model}, L4T {jetson.l4t}, JetPack {jetson.jetpack or 'unknown'}"
    if jetson.jetpack is None or jetson.jetpack < 6:
        return Finding("jetson", "note", found, "latentloop is made for JetPack 6 and 7")
    return Finding("jetson", "ok", found)


def cameras(root: Path, allowed: MayOpen) -> Iterator[Finding]:
    devices = sorted((root / "dev").glob("video[0-9]*"))
    if not devices:
        yield Finding("cameras", "ok", "no /dev/video*; files, streams and the simulated camera work without")
    for device in devices:
        name = read(root / "sys/class/video4linux" / device.name / "name") or "unnamed"
        if allowed(str(device)):
            yield Finding("cameras", "ok", f"/dev/{device.name}: {name}")
        else:
            found = f"/dev/{device.name}: {name}, which this user may not open"
            yield Finding("cameras", "note", found, join_group("video"))


def list_ports() -> list[Port]:
    from serial.tools.list_ports import comports

    return list(comports())


def serial_ports(ports: list[Port], allowed: MayOpen) -> Iterator[Finding]:
    """Ports with a USB identity, and the Jetson's own; the many ttyS of a PC mostly lead nowhere."""
    shown = [p for p in ports if p.vid is not None or re.search(r"tty(THS|AMA)\d", p.device)]
    if not shown:
        yield Finding("serial ports", "ok", "none with a device on it; the simulated board works without")
    for p in shown:
        usb = "" if p.vid is None else f" (USB {p.vid:04x}:{p.pid or 0:04x})"
        name = f"{p.device}: {p.description}{usb}"
        if allowed(p.device):
            yield Finding("serial ports", "ok", name)
        else:
            yield Finding("serial ports", "note", f"{name}, which this user may not open", join_group("dialout"))


def slow_adapters(ports: list[Port], sysfs: Path) -> Iterator[Finding]:
    """FTDI adapters that wait before they deliver."""
    from firmware_bridge import low_latency

    for p in ports:
        timer = low_latency.timer_of(p.device, sysfs)
        waits_ms = None if timer is None else low_latency.timer_ms(timer)
        if timer is not None and waits_ms is not None and waits_ms > low_latency.WANTED_MS:
            found = f"{p.device} keeps every answer for up to {waits_ms} ms (latency_timer)"
            remedy = f"{low_latency.command_for(timer)}; for good, in /etc/udev/rules.d/99-latentloop.rules: {low_latency.RULE}"
            yield Finding("serial ports", "note", found, remedy)


def shared_memory(folder: Path) -> Finding:
    try:
        free = shutil.disk_usage(folder).free // MB
    except OSError:
        return Finding("shared memory", "note", f"there is no {folder}", "pictures go through a temporary file instead")
    found = f"{free} MB free in {folder}"
    if free < 128:
        return Finding("shared memory", "note", found, "free some; in a container give more with --shm-size=256m")
    return Finding("shared memory", "ok", found)


def state_writable(folder: Path) -> Finding:
    """Whether it can be written, or made: tried with a file that vanishes at once, in the nearest folder there is."""
    elsewhere = "set XDG_STATE_HOME to a folder this user may write to"
    try:
        there = next(place for place in (folder, *folder.parents) if place.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
        free = shutil.disk_usage(there).free // MB
    except OSError as error:
        return Finding("state folder", "problem", f"{folder} cannot be written ({error.strerror})", elsewhere)
    found = f"{folder}, {free} MB free"
    if free < 64:
        return Finding("state folder", "problem", found, "free some space")
    if free < 1024:
        return Finding("state folder", "note", found, "free some space: the memory alone may grow to 512 MB")
    return Finding("state folder", "ok", found)


def bundles(folder: Path) -> Iterator[Finding]:
    """The bundles that ship with the package, each with its hashes checked."""
    from edge.bundle import MANIFEST, BundleError, load

    again = "install latentloop again"
    shipped = sorted(manifest.parent for manifest in folder.glob(f"*/{MANIFEST}"))
    if not shipped:
        yield Finding("bundles", "problem", f"none in {folder}: the demo needs one", again)
    for bundle in shipped:
        try:
            load(bundle)
            yield Finding("bundles", "ok", bundle.name)
        except BundleError as error:
            yield Finding("bundles", "problem", f"{bundle.name} is damaged: {error}", again)


def port(number: int) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError as error:
            remedy = "another latentloop may be running: end it, or give another port"
            return Finding("status page", "note", f"port {number} cannot be used ({error.strerror})", remedy)
    return Finding("status page", "ok", f"port {number} is free")


def time_synchronised(state: int) -> Finding:
    """state: what adjtimex(2) returns. Only labels depend on it; the loop runs on the monotonic clock."""
    if state in (_TIME_ERROR, -1):
        remedy = "times in the memory and the log may be wrong; with a network: timedatectl set-ntp true"
        return Finding("time", "note", "the clock is not synchronised", remedy)
    return Finding("time", "ok", "the clock is synchronised")


# -- the command -------------------------------------------------------------------------------------------------


_EXAMPLES = """examples:
  latentloop doctor
  latentloop doctor --acceptance rover --out report     on a Jetson or another NVIDIA GPU: everything it must show

exit codes: 0 the demo can run here, or the bundle is accepted; 1 it cannot, or is not; 2 bad input
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``doctor`` command."""
    parser = subparsers.add_parser(
        "doctor",
        help="what this machine has, what is missing and what to do",
        description="Look at this machine and say what is missing; changes nothing.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list of {check, level, found, remedy}")
    accept = parser.add_argument_group("acceptance")
    accept.add_argument("--acceptance", metavar="BUNDLE", help="build its TensorRT engines, measure them and write a report")
    accept.add_argument("--out", type=Path, default=Path("acceptance"), metavar="FOLDER", help="of it (default: %(default)s)")
    accept.add_argument("--seconds", type=_seconds, default=5.0, help="to time each engine for (default: %(default)s)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.acceptance is None:
        return report(list(examine()), as_json=args.json)
    from edge.acceptance import command  # not at the top: the doctor also runs where packages are missing

    return command.run(args.acceptance, args.out, seconds=args.seconds, as_json=args.json)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0 and up to 3600")
    return value


def report(findings: list[Finding], *, as_json: bool) -> int:
    """Print the findings; the exit code."""
    problems = sum(finding.level == "problem" for finding in findings)
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
        return 1 if problems else 0
    for finding in findings:
        print(f"{finding.level:<8} {finding.check:<14} {finding.found}")
        if finding.remedy:
            print(f"{'':<23} > {finding.remedy}")
    if problems:
        print(f"{problems} problem{'s' if problems > 1 else ''}: 'latentloop demo' cannot run here yet")
    else:
        print("nothing stands in the way of 'latentloop demo'")
    return 1 if problems else 0
