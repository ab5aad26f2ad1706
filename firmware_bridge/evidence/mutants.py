"""Mutation testing of the C core: each small change to its sources has to fail a test."""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from firmware_bridge.controller import BridgeError
from firmware_bridge.evidence.sequences import measure
from firmware_bridge.host_firmware import CORE_SOURCES, FIRMWARE

ROOT = Path(__file__).parents[2]
TESTS = ("test_framing.py", "test_safety.py", "test_motion.py", "test_lockstep.py")
OPERATORS = {
    "<=": "<", ">=": ">", " < ": " <= ", " > ": " >= ", "==": "!=", "!=": "==", "&&": "||", "||": "&&",
    " + ": " - ", " - ": " + ", "++": "--", " += ": " -= ", " -= ": " += ", ">>": "<<", " | ": " & ", "true": "false",
    "false": "true",
}  # fmt: skip
NUMBER = re.compile(r"(?<![\w.])\d+(?=u?\b)")
STATEMENT = re.compile(r"^\s+[\w\->\[\].+]+(\(.*\)| [|&^+-]?=[^=].*|\+\+|--);")
CONDITION = re.compile(r"\bif \((.+)\) (return|continue|break|[\w\->\[\].]+ [+|-]?= )")
PLUGIN = """
from hypothesis import Phase, settings
settings.register_profile("mutants", database=None, derandomize=True, phases=(Phase.explicit, Phase.generate))
settings.load_profile("mutants")
"""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One changed line of a file of the core. line: counted from 1."""

    file: str
    line: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: `{self.before.strip()}` -> `{self.after.strip() or '(deleted)'}`"


def mutants(file: str, source: str) -> Iterator[Mutant]:
    """Every mutant of a file: other operators and numbers, negated conditions, deleted statements."""
    for number, line in enumerate(source.splitlines(), 1):
        code = line.partition("/*")[0]
        if not line.startswith("    ") or "static const" in code or code.lstrip().startswith("{"):
            continue
        changed: set[str] = set()
        for operator, other in OPERATORS.items():
            for found in re.finditer(re.escape(operator), code):
                changed.add(line[: found.start()] + other + line[found.end() :])
        for found in NUMBER.finditer(code):
            changed.add(line[: found.start()] + str(int(found[0]) + 1) + line[found.end() :])
        if STATEMENT.match(code):
            changed.add("")
        if condition := CONDITION.search(code):
            changed.add(line[: condition.start(1)] + f"!({condition[1]})" + line[condition.end(1) :])
        for after in sorted(changed - {line}):
            yield Mutant(file, number, line, after)


def everything() -> list[Mutant]:
    return [each for file in CORE_SOURCES for each in mutants(file, (FIRMWARE / file).read_text())]


def fate(mutant: Mutant) -> str:
    """What became of it: "invalid" (does not compile), "killed" or "survived"."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in ("firmware_bridge", "tests/firmware_bridge"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        (tree / "tests" / "conftest.py").write_text(PLUGIN)
        source = tree / "firmware_bridge" / "firmware" / mutant.file
        lines = source.read_text().splitlines()
        lines[mutant.line - 1] = mutant.after
        source.write_text("\n".join(lines) + "\n")
        try:
            if measure(1_000, firmware=source.parent).broken is not None:
                return "killed"
        except BridgeError:
            return "invalid"
        tests = [str(tree / "tests" / "firmware_bridge" / name) for name in TESTS]
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--rootdir={tree}", *tests]
        try:
            done = subprocess.run(
                command, cwd=tree, capture_output=True, env={**os.environ, "PYTHONPATH": folder}, timeout=600
            )
        except subprocess.TimeoutExpired:
            return "killed"
        return "survived" if done.returncode == 0 else "killed"


def main() -> int:
    """Prints the score and the survivors; exit code 1 below 90 %."""
    parser = argparse.ArgumentParser(prog="python -m firmware_bridge.evidence.mutants", description=main.__doc__)
    parser.add_argument("--sample", type=int, default=60, help="how many, drawn by the seed (default: 60)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--all", action="store_true", help="all of them: hours")
    given = parser.parse_args()
    chosen = everything()
    total = len(chosen)
    if not given.all:
        chosen = random.Random(given.seed).sample(chosen, min(given.sample, total))
    first = (FIRMWARE / "core.c").read_text().splitlines()[0]
    if fate(Mutant("core.c", 1, first, first)) != "survived":
        sys.stderr.write("the tests fail without any change: make them pass before asking what a mutant does to them\n")
        return 2
    counts = dict.fromkeys(("killed", "survived", "invalid"), 0)
    with ThreadPoolExecutor(2) as pool:
        for mutant, end in zip(chosen, pool.map(fate, chosen), strict=True):
            counts[end] += 1
            if end == "survived":
                sys.stdout.write(f"survived: {mutant}\n")
            sys.stderr.write(f"\r{sum(counts.values())} of {len(chosen)} ")
    valid = counts["killed"] + counts["survived"]
    score = counts["killed"] / valid if valid else 0.0
    sys.stdout.write(f"{counts['killed']} of {valid} killed, {score:.1%}; {len(chosen)} of {total} mutants tried, ")
    sys.stdout.write(f"{counts['invalid']} did not compile\n")
    return 0 if score >= 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())
