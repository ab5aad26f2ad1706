"""The doctor on machines that are not there, described by their system files, and on this one."""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge import doctor
from edge.doctor import Finding

ORIN_CPU = "processor\t: 0\nFeatures\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp cpuid asimdrdm asimddp\n"
THOR_CPU = "processor\t: 0\nFeatures\t: fp asimd aes asimddp sve2 i8mm bf16\n"
NUC_CPU = "processor\t: 0\nmodel name\t: Intel(R) Core(TM) Ultra 7\nflags\t\t: fpu sse avx2 fma avx_vnni\n"
XEON_CPU = "model name\t: Intel(R) Xeon(R)\nflags\t\t: avx2 avx512f avx512_vnni amx_bf16 amx_tile amx_int8\n"
OLD_CPU = "model name\t: Intel(R) Core(TM) i5-4570\nflags\t\t: fpu sse4_2 avx avx2 fma\n"
PI_CPU = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\nModel\t\t: Raspberry Pi 4 Model B\n"

PIP_OPENCV = "  Video I/O:\n    FFMPEG:                      YES\n    GStreamer:                   NO\n"
JETSON_OPENCV = "  Video I/O:\n    FFMPEG:                      YES\n    GStreamer:                   YES (1.20.3)\n"
BARE_OPENCV = "  Video I/O:\n    FFMPEG:                      NO\n    GStreamer:                   NO\n"


@dataclass
class FakePort:
    device: str
    vid: int | None
    pid: int | None
    description: str


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("cpuinfo", "level", "says"),
    [
        (ORIN_CPU, "ok", "NEON dot product"),
        (THOR_CPU, "ok", "NEON dot product, NEON matrix multiply"),
        (NUC_CPU, "ok", "Ultra 7, 4 cores, AVX VNNI"),
        (XEON_CPU, "ok", "AVX-512 VNNI, AMX INT8"),
        (OLD_CPU, "note", "no INT8 products"),
        (PI_CPU, "note", "Raspberry Pi 4 Model B, 4 cores, no INT8"),
        ("", "note", "no INT8 products"),
    ],
)
def test_integer_instructions_are_found_by_their_kernel_names(cpuinfo: str, level: str, says: str) -> None:
    found = doctor.processor(cpuinfo, cores=4)
    assert (found.level, says in found.found) == (level, True), found
    assert bool(found.remedy) == (level == "note")


@pytest.mark.parametrize(
    ("version", "bug"),
    [
        ((3, 37, 2), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 54, 1), False),
    ],
)
def test_the_wal_reset_bug_is_known_by_version(version: tuple[int, ...], bug: bool) -> None:
    found = doctor.sqlite(version)
    assert found.level == "ok"
    assert ("WAL-reset" in found.found) == bug == bool(found.remedy)


@pytest.mark.parametrize(
    ("build", "distributions", "jetson", "level", "remedy"),
    [
        (PIP_OPENCV, ["opencv-python-headless"], False, "ok", ""),
        (PIP_OPENCV, ["opencv-python-headless"], True, "note", "CSI cameras"),
        (JETSON_OPENCV, [], True, "ok", ""),
        (BARE_OPENCV, [], False, "note", "FFmpeg"),
        (PIP_OPENCV, ["opencv-python", "opencv-python-headless"], False, "note", "all but one"),
    ],
)
def test_opencv_is_judged_by_its_build(
    build: str, distributions: list[str], jetson: bool, level: str, remedy: str
) -> None:
    found = doctor.opencv(build, distributions, jetson)
    assert found.level == level
    assert remedy in found.remedy and bool(remedy) == bool(found.remedy)


@pytest.mark.parametrize(
    ("model", "release", "level", "says"),
    [
        (
            "NVIDIA Jetson Orin Nano Developer Kit\0",
            "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64",
            "ok",
            "NVIDIA Jetson Orin Nano Developer Kit, L4T 36.4.3, JetPack 6",
        ),
        ("NVIDIA Jetson AGX Thor\0", "# R39 (release), REVISION: 2, GCID: 1", "ok", "JetPack 7"),
        ("NVIDIA Jetson Xavier NX\0", "# R35 (release), REVISION: 5.0, GCID: 1", "note", "JetPack 5"),
        ("NVIDIA Jetson Orin NX\0", "", "note", "no /etc/nv_tegra_release"),
        ("Raspberry Pi 5 Model B\0", "", "ok", "this is not a Jetson"),
        ("", "", "ok", "this is not a Jetson"),
    ],
)
def test_a_jetson_is_known_by_its_files(tmp_path: Path, model: str, release: str, level: str, says: str) -> None:
    files = {"proc/device-tree/model": model, "etc/nv_tegra_release": release}
    found = doctor.jetson_release(machine(tmp_path, {name: text for name, text in files.items() if text}))
    assert (found.level, says in found.found) == (level, True), found


@pytest.mark.parametrize(("available_kb", "level"), [(400_000, "note"), (900_000, "ok")])
def test_memory(available_kb: int, level: str) -> None:
    found = doctor.memory(
        f"MemTotal:        8000000 kB\nMemAvailable:    {available_kb} kB\nHugePages_Total:       0\n"
    )
    assert found.level == level and f"{available_kb // 1024} of 7812 MB" in found.found
    assert doctor.memory("").level == "note"


def test_a_camera_this_user_may_not_open_is_named_with_the_group(tmp_path: Path) -> None:
    files = {"dev/video0": "", "dev/video2": "", "sys/class/video4linux/video0/name": "HD Webcam\n"}
    root = machine(tmp_path, files)
    first, second = doctor.cameras(root, lambda device: device.endswith("video2"))
    assert (first.level, first.found) == ("note", "/dev/video0: HD Webcam, which this user may not open")
    assert "usermod -aG video" in first.remedy
    assert second == Finding("cameras", "ok", "/dev/video2: unnamed")
    (none,) = doctor.cameras(tmp_path / "nothing", lambda device: True)
    assert none.level == "ok"


def test_serial_ports_show_their_usb_identity_and_the_group() -> None:
    ports = [
        FakePort("/dev/ttyACM0", 0x2341, 0x0043, "Arduino Uno"),
        FakePort("/dev/ttyTHS1", None, None, "ttyTHS1"),
        FakePort("/dev/ttyS0", None, None, "n/a"),
    ]
    arduino, jetson = doctor.serial_ports(list(ports), lambda device: "THS" in device)
    assert arduino.level == "note" and "Arduino Uno (USB 2341:0043)" in arduino.found
    assert "usermod -aG dialout" in arduino.remedy
    assert jetson == Finding("serial ports", "ok", "/dev/ttyTHS1: ttyTHS1")
    (none,) = doctor.serial_ports([FakePort("/dev/ttyS0", None, None, "n/a")], lambda device: True)
    assert none.level == "ok" and none.found.startswith("none")


def test_a_state_folder_that_cannot_be_is_a_problem_and_none_is_made(tmp_path: Path) -> None:
    assert doctor.state_writable(tmp_path / "a" / "b").level == "ok"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    found = doctor.state_writable(tmp_path / "file" / "state")
    assert (found.level, "XDG_STATE_HOME" in found.remedy) == ("problem", True)


def test_the_port_of_the_status_page_may_be_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = doctor.port(other.getsockname()[1])
    assert taken.level == "note" and "in use" in taken.found
    assert doctor.port(0).level == "ok"


def test_bundles_are_checked_to_the_last_byte(tmp_path: Path) -> None:
    (none,) = doctor.bundles(tmp_path)
    assert none.level == "problem"
    shipped = Path(doctor.__file__).parent / "bundles"
    for bundle in shipped.glob("*/bundle.toml"):
        shutil.copytree(bundle.parent, tmp_path / bundle.parent.name)
    assert {found.level for found in doctor.bundles(tmp_path)} in ({"ok"}, {"problem"})
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "bundle.toml").write_text("name = 3")
    broken = next(found for found in doctor.bundles(tmp_path) if found.found.startswith("broken"))
    assert broken.level == "problem" and broken.remedy


def test_a_missing_package_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.packages().level == "ok"
    monkeypatch.setitem(doctor.PACKAGES, "no_such_module", "no-such-package")
    found = doctor.packages()
    assert (found.level, "no-such-package (No module named" in found.found) == ("problem", True)
    (guarded,) = doctor.guarded("x", lambda: __import__("no_such_module"))
    assert guarded.level == "problem"


@pytest.mark.parametrize(("jetson", "level"), [(True, "note"), (False, "ok")])
def test_tensorrt_is_missed_on_a_jetson_only(jetson: bool, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert doctor.tensorrt(jetson).level == level


@pytest.mark.parametrize(("state", "level"), [(0, "ok"), (1, "ok"), (5, "note"), (-1, "note")])
def test_time(state: int, level: str) -> None:
    assert doctor.time_synchronised(state).level == level


def test_old_python_no_compiler_and_little_shared_memory(tmp_path: Path) -> None:
    assert doctor.python((3, 9, 18)).level == "problem"
    assert doctor.python((3, 10, 0)).level == "ok"
    assert doctor.compiler(None).level == "note"
    assert doctor.shared_memory(tmp_path / "none").level == "note"
    assert doctor.shared_memory(tmp_path).level == "ok"


@pytest.mark.parametrize(("level", "code"), [("ok", 0), ("note", 0), ("problem", 1)])
def test_only_a_problem_changes_the_exit_code(
    level: doctor.Level, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = [Finding("a", "ok", "fine"), Finding("b", level, "found", "do this")]
    assert doctor.report(findings, as_json=False) == code
    assert "> do this" in capsys.readouterr().out
    assert doctor.report(findings, as_json=True) == code
    assert json.loads(capsys.readouterr().out)[1] == {
        "check": "b",
        "level": level,
        "found": "found",
        "remedy": "do this",
    }


def test_the_command_on_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    doctor.register(parser.add_subparsers())
    args = parser.parse_args(["doctor", "--json"])
    code = args.run(args)
    findings = json.loads(capsys.readouterr().out)
    assert code == int(any(finding["level"] == "problem" for finding in findings))
    by_check = {finding["check"]: finding for finding in findings}
    assert by_check["packages"]["level"] == by_check["python"]["level"] == by_check["state folder"]["level"] == "ok"
    assert all(finding["remedy"] for finding in findings if finding["level"] != "ok")


def test_a_slow_serial_adapter_is_named_with_the_command(tmp_path: Path) -> None:
    timer = tmp_path / "bus/usb-serial/devices/ttyUSB3/latency_timer"
    timer.parent.mkdir(parents=True)
    timer.write_text("16\n")
    ports: list[doctor.Port] = [FakePort("/dev/ttyUSB3", 0x0403, 0x6001, "FT232R"), FakePort("/dev/ttyS0", None, None, "n/a")]
    (slow,) = doctor.slow_adapters(ports, tmp_path)
    assert slow.level == "note" and "/dev/ttyUSB3 keeps every answer for up to 16 ms" in slow.found
    assert slow.remedy.startswith(f"echo 1 | sudo tee {timer}")
    timer.write_text("1\n")
    assert not list(doctor.slow_adapters(ports, tmp_path))
