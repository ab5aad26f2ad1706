"""The C core, built for three Cortex-M processors, passes its own tests on them: in QEMU, in virtual time."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from firmware_bridge.host_firmware import CORE_SOURCES, FIRMWARE
from tests.conftest import unmet
from tests.firmware_bridge.test_framing import REFUSED, SCHEMA, VECTORS

PORT = FIRMWARE / "ports" / "cortex_m"
MACHINES = {
    "microbit": ("thumbv6m-none-eabi", "cortex-m0"),
    "lm3s6965evb": ("thumbv7m-none-eabi", "cortex-m3"),
    "netduinoplus2": ("thumbv7em-none-eabi", "cortex-m4"),
}
TOOLS = ("clang-14", "ld.lld-14", "qemu-system-arm")
EXPECTED = {
    "crc_errors": "FB_DECODE_BAD_CRC",
    "cobs_errors": "FB_DECODE_BAD_COBS",
    "overruns": "FB_DECODE_OVERRUN",
    "unknown": "FB_DECODE_UNKNOWN",
}


def _c_bytes(data: bytes) -> str:
    return "{" + ", ".join(f"0x{byte:02X}" for byte in data or b"\0") + "}"


def vectors_header() -> str:
    """vectors.json as two tables in C."""
    lines = [
        f"#define VECTORS_SCHEMA_ID 0x{SCHEMA:08X}u",
        "typedef struct {",
        "    uint8_t flags, type, seq, session, length, wire_length, payload[FB_MAX_PAYLOAD], wire[FB_MAX_WIRE];",
        "} good_frame;",
        "static const good_frame good[] = {",
    ]
    for message, seq, session, flags, wire in VECTORS:
        payload, sent = message.pack(), bytes.fromhex(wire)
        head = f"{flags}, 0x{message.TYPE:02X}, {seq}, {session}, {len(payload)}, {len(sent)}"
        lines.append(f"    {{{head}, {_c_bytes(payload)}, {_c_bytes(sent)}}},")
    lines += ["};", "typedef struct {", "    fb_decoded expected;", "    uint8_t wire_length, wire[160];", "} bad_frame;"]
    lines.append("static const bad_frame refused[] = {")
    for wire, counter in REFUSED:
        sent = bytes.fromhex(wire)
        lines.append(f"    {{{EXPECTED[counter]}, {len(sent)}, {_c_bytes(sent)}}},")
    return "\n".join([*lines, "};", ""])


def build(machine: str, folder: Path, vectors: str) -> Path:
    target, processor = MACHINES[machine]
    (folder / "vectors.h").write_text(vectors)
    program = folder / f"{machine}.elf"
    command = ["clang-14", f"--target={target}", f"-mcpu={processor}", "-mfloat-abi=soft", "-Os", "-std=c99"]
    command += ["-ffreestanding", "-nostdlib", "-Wall", "-Wextra", "-Werror", "-fuse-ld=lld-14"]
    command += ["-I", str(FIRMWARE), "-I", str(FIRMWARE / "boards" / "rover"), "-I", str(folder)]
    command += ["-L", str(PORT), "-T", str(PORT / f"{machine}.ld"), "-Wl,--gc-sections", "-ffunction-sections"]
    command += [str(FIRMWARE / name) for name in CORE_SOURCES]
    command += [str(PORT / name) for name in ("startup.c", "arithmetic.c", "selftest.c")]
    done = subprocess.run([*command, "-o", str(program)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return program


def run(machine: str, program: Path) -> tuple[int, str]:
    """The exit code and the last line that the program printed; what QEMU has to say about the machine comes before it."""
    command = ["qemu-system-arm", "-M", machine, "-display", "none", "-monitor", "none", "-serial", "none"]
    command += ["-semihosting-config", "enable=on,target=native", "-kernel", str(program)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    return done.returncode, (done.stdout + done.stderr).strip().splitlines()[-1]


@pytest.fixture(autouse=True)
def tools() -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        unmet(f"{', '.join(missing)} missing: apt-get install clang-14 lld-14 qemu-system-arm")


@pytest.mark.parametrize("machine", MACHINES)
def test_the_core_passes_its_own_tests(machine: str, tmp_path: Path) -> None:
    assert run(machine, build(machine, tmp_path, vectors_header())) == (0, "all tests of the core passed")


@pytest.mark.parametrize("machine", MACHINES)
def test_a_wrong_byte_is_noticed(machine: str, tmp_path: Path) -> None:
    wrong = vectors_header().replace("0xAE, 0xF4, 0x00}", "0xAE, 0xF5, 0x00}", 1)
    assert wrong != vectors_header()
    code, said = run(machine, build(machine, tmp_path, wrong))
    assert code == 1
    assert re.fullmatch(r"selftest\.c:\d+: wire\[k\] == v->wire\[k\] does not hold", said)
