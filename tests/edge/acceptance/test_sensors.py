"""Sensors as the kernel lays them out. The Jetson's layouts are written after documentation, not copied from a device."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.acceptance.sensors import Watched, parse_nvidia_smi, read_sensors


def system(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / "sys" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "sys" / name).write_text(text)
    return root


ORIN = {
    "class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "class/thermal/thermal_zone0/temp": "51250\n",
    "class/thermal/thermal_zone1/type": "gpu-thermal\n",
    "class/thermal/thermal_zone1/temp": "-256000\n",
    "class/hwmon/hwmon1/name": "ina3221\n",
    "class/hwmon/hwmon1/in1_label": "VDD_IN\n",
    "class/hwmon/hwmon1/in1_input": "5000\n",
    "class/hwmon/hwmon1/curr1_input": "1500\n",
    "class/hwmon/hwmon1/in2_label": "VDD_CPU_GPU_CV\n",
    "class/hwmon/hwmon1/in2_input": "5000\n",
    "class/hwmon/hwmon2/name": "ina238\n",
    "class/hwmon/hwmon2/power1_input": "7250000\n",
}


def test_a_jetson(tmp_path: Path) -> None:
    assert read_sensors(system(tmp_path, ORIN)) == {"cpu-thermal °C": 51.25, "VDD_IN W": 7.5, "ina238 W": 7.25}


def test_a_machine_without_sensors(tmp_path: Path) -> None:
    assert read_sensors(tmp_path) == {}
    assert read_sensors(system(tmp_path, {"class/thermal/thermal_zone0/temp": "broken"})) == {}


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("31.25, 45\n", {"GPU W": 31.25, "GPU °C": 45.0}),
        ("[N/A], 45\n", {"GPU °C": 45.0}),
        ("31.25, 45\n99.0, 80\n", {"GPU W": 31.25, "GPU °C": 45.0}),
        ("", {}),
        ("No devices were found\n", {}),
    ],
)
def test_what_nvidia_smi_says(answer: str, found: dict[str, float]) -> None:
    assert parse_nvidia_smi(answer) == found


def test_watching_gives_mean_and_highest(tmp_path: Path) -> None:
    root = system(tmp_path, ORIN)
    with Watched(root, period_s=3600.0) as watched:
        pass
    assert watched.summary["VDD_IN W"] == {"mean": 7.5, "max": 7.5}


def test_this_machine_can_be_read() -> None:
    assert all(isinstance(value, float) for value in read_sensors().values())
