"""Mutation testing of the C core: each small change to its sources has to fail a test."""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from firmware_bridge.controller import BridgeError
from firmware_bridge.evidence.killers import Fate, Killers, fingerprint
from firmware_bridge.host_firmware import CORE_SOURCES, FIRMWARE

ROOT = Path(__file__).parents[2]
OPERATORS = {
    "<=": "<", ">=": ">", " < ": " <= ", " > ": " >= ", "==": "!=", "!=": "==", "&&": "||", "||": "&&",
    " + ": " - ", " - ": " + ", "++": "--", " += ": " -= ", " -= ": " += ", ">>": "<<", " | ": " & ", "true": "false",
    "false": "true",
}  # fmt: skip
NUMBER = re.compile(r"(?<![\w.])\d+(?=u?\b)")
STATEMENT = re.compile(r"^\s+[\w\->\[\].+]+(\(.*\)| [|&^+-]?=[^=].*|\+\+|--);")
CONDITION = re.compile(r"\bif \((.+)\) (return|continue|break|[\w\->\[\].]+ [+|-]?= )")
RESULTS = ROOT / "build" / "mutants.jsonl"


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


def changed(mutant: Mutant) -> str:
    """The source of its file with it."""
    lines = (FIRMWARE / mutant.file).read_text().splitlines()
    lines[mutant.line - 1] = mutant.after
    return "\n".join(lines) + "\n"


class Results:
    """What became of which mutant, kept in a file so that a run can go on where an earlier one ended.

    path: a line of JSON each. A line counts as long as the core is the same and what decided: for one that lives or
    sequences killed the tests do not matter, for all others they do.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._of = {tests: fingerprint(tests) for tests in (True, False)}
        self._known: dict[str, Fate] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                tested, mutant = entry.pop("tested"), entry.pop("mutant")
                fate = Fate(**entry)
                if tested == self._of[fate.needs_tests]:
                    self._known[mutant] = fate

    def get(self, mutant: Mutant) -> Fate | None:
        return self._known.get(str(mutant))

    def put(self, mutant: Mutant, fate: Fate) -> None:
        self._known[str(mutant)] = fate
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps({"tested": self._of[fate.needs_tests], "mutant": str(mutant), **asdict(fate)}) + "\n")


def main() -> int:
    """Prints the score and the survivors; exit code 1 below 90 %, 3 if time ran out first."""
    parser = argparse.ArgumentParser(prog="python -m firmware_bridge.evidence.mutants", description=main.__doc__)
    parser.add_argument("--sample", type=int, default=60, help="how many, drawn by the seed (default: 60)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--all", action="store_true", help="all of them: some minutes")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop then; the next run goes on from there")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time (default: processors)")
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"file of the results (default: {RESULTS.name} in build/)")
    given = parser.parse_args()
    chosen = everything()
    total = len(chosen)
    if not given.all:
        chosen = random.Random(given.seed).sample(chosen, min(given.sample, total))
    results = Results(given.results)
    try:
        tried = try_all([each for each in chosen if results.get(each) is None], results, given.jobs, given.seconds)
    except BridgeError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if not tried:
        sys.stderr.write("\ntime is over: the same command goes on\n")
        return 3
    return report([(each, results.get(each) or Fate("invalid")) for each in chosen], total)


def try_all(mutants: Sequence[Mutant], results: Results, jobs: int, seconds: float) -> bool:
    """Try them until the time is over; whether none is left. Raises BridgeError if the unchanged core fails a test."""
    if not mutants:
        return True
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        killers = Killers(Path(folder))
        unchanged = killers.fate("core.c", (FIRMWARE / "core.c").read_text())
        if unchanged.of != "survived":
            raise BridgeError(f"without any change: {unchanged.of} by {unchanged.by}; make that pass before asking for mutants")

        def decide(mutant: Mutant) -> tuple[Mutant, Fate | None]:
            late = time.monotonic() > end
            return mutant, None if late else killers.fate(mutant.file, changed(mutant))

        left = len(mutants)
        for mutant, fate in pool.map(decide, mutants):
            if fate is not None:
                left -= 1
                results.put(mutant, fate)
                sys.stderr.write(f"\r{left} to go ")
    return left == 0


def report(fates: Sequence[tuple[Mutant, Fate]], total: int) -> int:
    """Print who survived and the score, which counts every mutant that compiles."""
    counts = Counter(fate.of for _, fate in fates)
    by = Counter(fate.by for _, fate in fates if fate.of == "killed")
    for mutant, fate in fates:
        if fate.of in ("survived", "same"):
            sys.stdout.write(f"{fate.of}: {mutant}\n")
    valid = len(fates) - counts["invalid"]
    score = counts["killed"] / valid if valid else 0.0
    killers = ", ".join(f"{number} by {name}" for name, number in by.most_common())
    sys.stdout.write(f"{counts['killed']} of {valid} killed, {score:.1%} ({killers}); ")
    sys.stdout.write(f"{counts['survived']} survived, {counts['same']} are the same machine code; ")
    sys.stdout.write(f"{len(fates)} of {total} mutants tried, {counts['invalid']} did not compile\n")
    return 0 if score >= 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())
