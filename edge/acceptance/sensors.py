"""Power and temperature while something runs, from the kernel's files and from nvidia-smi.

tegrastats is not asked: on a Jetson it prints what these files say. Layouts: hwmon's sysfs-interface in the kernel's
documentation; INA3221 and INA238 as JetPack names them were read about and not seen (docs/tensorrt.md).
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

QUERY = ("nvidia-smi", "--query-gpu=power.draw,temperature.gpu", "--format=csv,noheader,nounits")
PERIOD_S = 0.5


def read_sensors(root: Path = Path("/")) -> dict[str, float]:
    """Sensor -> value, now; the name ends in its unit, ``W`` or ``°C``. root: where the system's files lie."""
    found: dict[str, float] = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        value = _number(zone / "temp")
        if value is not None and value > 0:  # zones that are switched off say 0 or below
            found[f"{_text(zone / 'type') or zone.name} °C"] = value / 1000
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        name = _text(chip / "name")
        for file in sorted(chip.glob("power*_input")):
            microwatts = _number(file)
            if microwatts is not None:
                label = _text(chip / file.name.replace("_input", "_label"))
                found[f"{label or name} W"] = microwatts / 1e6
        if name.startswith("ina"):
            for rail in sorted(chip.glob("in*_label")):
                index = rail.name[len("in") : -len("_label")]
                millivolts, milliamperes = _number(chip / f"in{index}_input"), _number(chip / f"curr{index}_input")
                if millivolts is not None and milliamperes is not None:
                    found[f"{_text(rail)} W"] = millivolts * milliamperes / 1e6
    return found | (_discrete_gpu() if root == Path("/") else {})


def _discrete_gpu() -> dict[str, float]:
    if shutil.which(QUERY[0]) is None:
        return {}
    try:
        answer = subprocess.run(QUERY, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return parse_nvidia_smi(answer)


def parse_nvidia_smi(answer: str) -> dict[str, float]:
    """Of its first line: ``31.2, 45``; what the card does not know is ``[N/A]`` and left out."""
    found = {}
    for name, text in zip(("GPU W", "GPU °C"), answer.strip().split("\n")[0].split(","), strict=False):
        try:
            found[name] = float(text)
        except ValueError:
            continue
    return found


class Watched:
    """Reads the sensors every half second, in a thread, while its block runs."""

    def __init__(self, root: Path = Path("/"), period_s: float = PERIOD_S) -> None:
        self._root, self._period_s = root, period_s
        self._seen: dict[str, list[float]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="sensors", daemon=True)

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            for name, value in read_sensors(self._root).items():
                self._seen.setdefault(name, []).append(value)
            if self._over.wait(self._period_s):
                return

    @property
    def summary(self) -> Mapping[str, Mapping[str, float]]:
        """Sensor -> mean and max, after the block."""
        return {
            name: {"mean": round(sum(values) / len(values), 3), "max": round(max(values), 3)}
            for name, values in self._seen.items()
        }


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> float | None:
    try:
        return float(_text(path))
    except ValueError:
        return None
