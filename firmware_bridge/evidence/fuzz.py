"""Searches for a sequence that breaks a property: libFuzzer, guided by the coverage of the C core."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from firmware_bridge.controller import BridgeError
from firmware_bridge.evidence.build import BOARDS, build
from firmware_bridge.host_firmware import FIRMWARE

COMPILER = "clang-14"
OPTIONS = ("-O1", "-fsanitize=fuzzer,address,undefined,bounds", "-fno-sanitize-recover=all")
MISSING = "there is no clang-14 with libFuzzer on this machine: apt-get install clang-14 libclang-rt-14-dev"


def available() -> bool:
    """Whether the compiler and its fuzzing runtime are there."""
    if shutil.which(COMPILER) is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "empty.c"
        source.write_text("int LLVMFuzzerTestOneInput(const char *b, long n) { return b == 0 && n < 0; }\n")
        command = [COMPILER, "-fsanitize=fuzzer", str(source), "-o", str(source.with_suffix(""))]
        return subprocess.run(command, capture_output=True).returncode == 0


def search(seconds: int, *, seed: int = 1, firmware: Path = FIRMWARE, board: str = "mixed") -> str | None:
    """What was found in that time, None for nothing. Raises BridgeError where libFuzzer is missing."""
    if not available():
        raise BridgeError(MISSING)
    with tempfile.TemporaryDirectory() as folder:
        program = build("fuzz", Path(folder), BOARDS[board], firmware=firmware, options=OPTIONS, compiler=COMPILER)
        limits = [f"-max_total_time={seconds}", "-max_len=1024", "-len_control=0", f"-seed={seed}", "-print_final_stats=1"]
        limits.append("-rss_limit_mb=0")  # Linux counts a child's peak from that of the process that started it
        done = subprocess.run([str(program), *limits], capture_output=True, text=True, cwd=folder)
    said = done.stderr.splitlines()
    if done.returncode == 0:
        runs = next((line.split()[-1] for line in said if "number_of_executed_units" in line), "0")
        sys.stdout.write(f"{board}: {runs} sequences, nothing found\n")
        return None
    signs = ("broken:", "runtime error:", "ERROR: AddressSanitizer")
    return next((line for line in said if any(sign in line for sign in signs)), "\n".join(said[-5:]))


def main() -> int:
    """Search on the board with both kinds of axis."""
    parser = argparse.ArgumentParser(prog="python -m firmware_bridge.evidence.fuzz", description=main.__doc__)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    try:
        found = search(given.seconds, seed=given.seed)
    except BridgeError as error:
        sys.stderr.write(f"{error}\n")
        return 0 if str(error) == MISSING else 2
    if found is not None:
        sys.stdout.write(f"found: {found}\n")
    return 0 if found is None else 1


if __name__ == "__main__":
    sys.exit(main())
