"""The child process that builds while the runtime runs: real processes, of a script in place of the builder."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from edge.bundle import load
from edge.engines.tensorrt import background
from edge.engines.tensorrt.background import LACKING, READY, BackgroundBuild, build_in_background
from edge.engines.tensorrt.cache import PlanCache
from edge.engines.tensorrt.library import Machine
from edge.engines.tensorrt.making import candidates
from edge.engines.tensorrt.record import Record

WAIT_S = 300.0


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "engines")


def child(script: str, cache: PlanCache) -> BackgroundBuild:
    return BackgroundBuild(load("camera"), (sys.executable, "-u", "-c", script), cache)


def until_status(build: BackgroundBuild, wanted: str) -> None:
    end = time.monotonic() + WAIT_S
    while build.status != wanted and time.monotonic() < end:
        threading.Event().wait(0.01)
    assert build.status == wanted


def says(*lines: str, code: int = 0) -> str:
    return f"import sys\nfor line in {lines!r}: print(line, file=sys.stderr)\nsys.stderr.flush()\nimport os\nos._exit({code})"


@pytest.mark.parametrize(
    ("lines", "code", "status"),
    [
        (("encoder as int8: building", "  Building engine: 3 of 6", "encoder as int8: 1.2 ms"), 0, READY),
        (("encoder as int8: building", "encoder as int8: refused"), 1, LACKING),
        (("encoder as int8: it is there",), 0, ""),
        (("latentloop: there is no NVIDIA GPU",), 2, ""),
        (("encoder as int8: building",), 139, LACKING),
    ],
)
def test_what_came_of_it(lines: tuple[str, ...], code: int, status: str, cache: PlanCache) -> None:
    build = child(says(*lines, code=code), cache)
    until_status(build, status)
    build.close()
    assert build.status == status


def test_progress_is_told_while_it_runs_at_the_lowest_priority_and_closing_ends_it(cache: PlanCache) -> None:
    build = child(
        "import os, sys, time\n"
        "print('encoder as int8: building', file=sys.stderr)\n"
        "print('  nice', os.nice(0), sys.argv[1], file=sys.stderr)\n"
        "time.sleep(600)",
        cache,
    )
    until_status(build, f"TensorRT: encoder as int8: building, nice 19 {load('camera').folder}")
    began = time.monotonic()
    build.close()
    build.close()
    assert time.monotonic() - began < WAIT_S and build._child.poll() is not None


def test_a_build_that_is_ended_with_the_runtime_goes_on_at_the_next_start(cache: PlanCache) -> None:
    known = next(candidates(load("camera"), Machine("10.3.0", "Orin", "8.7")))
    started = Record(known.key, "camera", known.part, known.recipe.name, "int8", built=1.0)
    build = child("import time; time.sleep(600)", cache)
    cache.begin(started)
    build.close()
    assert cache.records() == []
    cache.begin(started)
    dead = child("raise SystemExit(3)", cache)
    until_status(dead, "")
    dead.close()
    assert [each.verdict for each in cache.records()] == [None]  # what it left behind when it died stays


def test_without_a_gpu_no_child_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr(background, "BackgroundBuild", started.append)
    bundle = load("camera")
    assert build_in_background(bundle, tmp_path) is None and started == []
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvgpu").touch()
    build_in_background(bundle, tmp_path)
    assert started == [bundle]
