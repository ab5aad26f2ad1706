"""Machines without TensorRT, described by their system files: each is told what to do, in one sentence."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from edge.engines import EngineError
from edge.engines.tensorrt.library import NoTensorRt, find_library, why_not

NO_MODULE = ImportError("No module named 'tensorrt'")


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "no NVIDIA GPU on this machine (No module named 'tensorrt'): run this on the Jetson"),
        ({"dev/nvidia0": ""}, "pip install pycuda, and tensorrt-cu12 or tensorrt-cu13"),
        ({"etc/nv_tegra_release": "# R36 (release), REVISION: 4.3"}, "apt install python3-libnvinfer"),
        ({"etc/nv_tegra_release": "# R36 (release), REVISION: 4.3"}, "with Python 3.10 and --system-site-packages"),
        ({"etc/nv_tegra_release": "# R39 (release), REVISION: 2.0"}, "with Python 3.12 and --system-site-packages"),
        ({"proc/device-tree/model": "NVIDIA Jetson Orin Nano\0"}, "with the system's Python and"),
    ],
)
def test_the_remedy_goes_by_the_machine(tmp_path: Path, files: dict[str, str], says: str) -> None:
    sentence = why_not(NO_MODULE, machine(tmp_path, files))
    assert says in sentence and "\n" not in sentence


def test_a_driver_that_complains_over_many_lines_is_quoted_with_the_first(tmp_path: Path) -> None:
    sentence = why_not(RuntimeError("cuInit failed: no device\nmore\nand more"), tmp_path)
    assert "(cuInit failed: no device)" in sentence


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed here")
def test_this_machine_is_told_so() -> None:
    with pytest.raises(NoTensorRt, match="No module named 'tensorrt'") as caught:
        find_library()
    assert isinstance(caught.value, EngineError)
