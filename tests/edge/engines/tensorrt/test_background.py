"""The child process that builds while the runtime runs: real processes, of a script in place of the builder."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.bundle import load
from edge.engines.tensorrt import background
from edge.engines.tensorrt.background import LACKING, READY, WAITING, BackgroundBuild, build_in_background
from edge.engines.tensorrt.cache import PlanCache
from edge.engines.tensorrt.library import Machine
from edge.engines.tensorrt.making import candidates
from edge.engines.tensorrt.record import Record
from edge.messages import EngineBuild

WAIT_S = 300.0
FOREVER = """import os, sys, time
print('encoder as int8: building', file=sys.stderr)
print(f'  nice {os.nice(0)} of {sys.argv[1]}: 43 %', file=sys.stderr)
time.sleep(600)"""


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "engines")


def child(script: str, cache: PlanCache) -> BackgroundBuild:
    return BackgroundBuild(load("camera"), (sys.executable, "-u", "-c", script), cache)


def until(build: BackgroundBuild, holds: Callable[[EngineBuild], bool]) -> EngineBuild:
    end = time.monotonic() + WAIT_S
    while not holds(build.state) and time.monotonic() < end:
        threading.Event().wait(0.01)
    assert holds(build.state), build.state
    return build.state


def says(*lines: str, code: int = 0) -> str:
    return f"import sys\nfor line in {lines!r}: print(line, file=sys.stderr)\nsys.stderr.flush()\nimport os\nos._exit({code})"


REFUSED = "rollout as int8: refused, the cosine is 0.5"
FASTER = "encoder as int8: 2.1 times as fast (1.20 ms, onnxruntime 2.50 ms), error 0.0010 on footage, int8"


@pytest.mark.parametrize(
    ("lines", "code", "state"),
    [
        (("encoder as int8: building", "  Building engine: 50 %", FASTER), 0, EngineBuild(READY, None, (FASTER,))),
        (("encoder as int8: building", "encoder as int8: refused"), 1, EngineBuild(LACKING, None, ("encoder as int8: refused",))),
        (("encoder as int8: it is there",), 0, EngineBuild("")),
        (("rollout as int8: building", FASTER, REFUSED), 1, EngineBuild(LACKING, None, (REFUSED,))),
        (("latentloop: there is no NVIDIA GPU",), 2, EngineBuild("")),
        (("encoder as int8: building",), 139, EngineBuild(LACKING)),
    ],
)
def test_what_came_of_it(lines: tuple[str, ...], code: int, state: EngineBuild, cache: PlanCache) -> None:
    build = child(says(*lines, code=code), cache)
    until(build, lambda found: found == state)
    build.armed(True)  # what has ended stays ended
    build.armed(False)
    build.close()
    assert build.state == state


def test_progress_is_told_while_it_runs_at_the_lowest_priority_and_closing_ends_it(cache: PlanCache) -> None:
    build = child(FOREVER, cache)
    text = f"building TensorRT engine encoder as int8, nice 19 of {load('camera').folder}"
    until(build, lambda state: state == EngineBuild(text, 0.43))
    began = time.monotonic()
    build.close()
    build.close()
    assert time.monotonic() - began < WAIT_S and build._child is not None and build._child.poll() is not None


def started(cache: PlanCache) -> Record:
    known = next(candidates(load("camera"), Machine("10.3.0", "Orin", "8.7")))
    record = Record(known.key, "camera", known.part, known.recipe.name, "int8", built=1.0)
    cache.begin(record)
    return record


def test_a_build_that_is_ended_with_the_runtime_goes_on_at_the_next_start(cache: PlanCache) -> None:
    build = child(FOREVER, cache)
    until(build, lambda state: state.share == 0.43)
    started(cache)
    build.close()
    assert cache.records() == []
    started(cache)
    dead = child("raise SystemExit(3)", cache)
    until(dead, lambda state: state.text == "")
    dead.close()
    assert [each.verdict for each in cache.records()] == [None]  # what it left behind when it died stays


def test_arming_ends_the_build_and_disarming_begins_it_anew(cache: PlanCache, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    build = child(f"open({str(runs)!r}, 'a').write('x')\n{FOREVER}", cache)
    until(build, lambda state: state.share == 0.43)
    first = build._child
    started(cache)
    build.armed(False)
    assert first is not None and first.poll() is None  # disarmed it was before
    for _ in range(3):
        build.armed(True)
    until(build, lambda state: state == EngineBuild(WAITING))
    assert first.poll() is not None and cache.records() == [] and runs.read_text() == "x"
    build.armed(False)
    until(build, lambda state: state.share == 0.43)
    assert build._child is not first and runs.read_text() == "xx"
    build.close()


def test_what_came_of_plans_before_arming_is_still_told_after_it(cache: PlanCache, tmp_path: Path) -> None:
    once = tmp_path / "once"
    script = (
        "import os, sys, time\n"
        f"first = not os.path.exists({str(once)!r})\n"
        f"open({str(once)!r}, 'w').close()\n"
        "say = lambda line: print(line, file=sys.stderr)\n"
        "say('encoder as int8: building') if first else say('encoder as int8: it is there')\n"
        f"say({FASTER!r}) if first else None\n"
        "time.sleep(600) if first else None"
    )
    build = child(script, cache)
    until(build, lambda state: state.outcomes == (FASTER,))
    build.armed(True)
    until(build, lambda state: state == EngineBuild(WAITING, None, (FASTER,)))
    build.armed(False)
    until(build, lambda state: state == EngineBuild(READY, None, (FASTER,)))
    build.close()


def test_no_build_is_begun_while_armed(cache: PlanCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Armed between the decision to begin and the child's first breath, which is the worst moment."""
    begin = BackgroundBuild._start

    def armed_meanwhile(self: BackgroundBuild) -> object:
        self.armed(True)
        return begin(self)

    monkeypatch.setattr(BackgroundBuild, "_start", armed_meanwhile)
    build = child(f"import time; time.sleep(1)\n{FOREVER}", cache)
    until(build, lambda state: state == EngineBuild(WAITING))
    assert build._child is not None and build._child.poll() is not None
    build.close()
    assert build.state == EngineBuild("")


def test_without_a_gpu_no_child_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[object] = []
    monkeypatch.setattr(background, "BackgroundBuild", begun.append)
    bundle = load("camera")
    assert build_in_background(bundle, tmp_path) is None and begun == []
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvgpu").touch()
    build_in_background(bundle, tmp_path)
    assert begun == [bundle]
