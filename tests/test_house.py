"""The house rules: who may import whom, what lies where, and what must never be committed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("edge", "export", "firmware_bridge", "calibration")
TOP_LEVEL = {
    *("pyproject.toml", "README.md", "edge", "export", "firmware_bridge", "calibration", "tests", "docs"),
    *("Makefile", "LICENSE", "requirements.lock", ".ci", ".gitignore"),
}
LARGEST_FILE = 4 << 20

WORKSTATION = {"torch", "torchvision", "onnx", "onnxscript", "onnx_ir", "transformers"}
MAY_NOT_IMPORT = {
    "firmware_bridge": {"edge", "export", "calibration", *WORKSTATION},
    "edge": {"export", "calibration", *WORKSTATION},
    "calibration": {"export", *WORKSTATION},
    "export": set[str](),
}
GROUND_FLOOR = ("messages", "clock", "config", "bundle", "errors")
STAGES = ("cameras", "engines", "belief", "memory", "surprise", "planning", "safety", "loop")
OBSERVERS = ("recording", "dashboard", "fleet")
ASSEMBLY = ("robot", "run", "watch", "demo", "bench", "cli", "doctor")

TREE = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(source: str, module: str) -> Iterator[str]:
    """Every module that a module imports, at the top, in a function or by name; absolute, dotted."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(module.split(".")[: -node.level]) if node.level else ""
            origin = ".".join(part for part in (base, node.module or "") if part)
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__", "importorskip", "find_spec"):
                yield str(node.args[0].value)


def trespasses(source: str, module: str) -> list[str]:
    """The imports of a module that the walls forbid. module: its dotted name, of a package with ``.__init__``."""
    package, _, inside = module.partition(".")
    room = inside.split(".")[0]
    found = []
    for target in imports(source, module):
        top, _, below = target.partition(".")
        other = below.split(".")[0]
        if top in MAY_NOT_IMPORT[package]:
            found.append(f"{module} imports {target}: {package} may not import {top}")
        if package != "edge" or top != "edge":
            continue
        if room in GROUND_FLOOR and other not in GROUND_FLOOR:
            found.append(f"{module} imports {target}: the ground floor imports nothing above it")
        if room in STAGES and (other in OBSERVERS or other in ASSEMBLY):
            found.append(f"{module} imports {target}: stages know neither observers nor assembly")
        if room in OBSERVERS and other in (*STAGES, *ASSEMBLY):
            found.append(f"{module} imports {target}: observers know ticks, not stages")
    return found


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def tracked() -> list[Path]:
    """What is committed or would be."""
    answer = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    return [ROOT / name for name in answer.split("\0") if name and (ROOT / name).is_file()]


def requirements() -> dict[str, str]:
    """Every dependency that pyproject.toml names, lower case, with its whole requirement."""
    project = PROJECT["project"]
    everything = [*project["dependencies"], *PROJECT["build-system"]["requires"]]
    for extra in project["optional-dependencies"].values():
        everything += extra
    return {re.split(r"[^A-Za-z0-9._-]", each)[0].lower(): each for each in everything}


# -- who may import whom -----------------------------------------------------------------------------------------


def test_nothing_is_imported_through_a_wall() -> None:
    assert [wrong for path in TREE for wrong in trespasses(path.read_text(), dotted(path))] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("edge.engines.engine", "import torch"),
        ("edge.engines.engine", "def f():\n    from onnx import numpy_helper"),
        ("edge.engines.engine", "import importlib\nimportlib.import_module('torch.nn')"),
        ("edge.robot", "from export.package import pack"),
        ("edge.messages", "from edge.memory import Memory"),
        ("edge.messages", "from . import belief"),
        ("edge.bundle", "import edge.engines.engine"),
        ("edge.loop", "from edge.dashboard import Dashboard"),
        ("edge.loop", "if True:\n    from edge import dashboard"),
        ("edge.memory.memory", "from edge.robot import Robot"),
        ("edge.dashboard.feed", "from edge.memory import Memory"),
        ("firmware_bridge.link", "from edge.clock import Clock"),
        ("firmware_bridge.firmware.x", "from ...edge import clock"),
        ("calibration.cli", "import export"),
        ("calibration.cli", "import onnx"),
    ],
)
def test_the_walls_stop_planted_imports(module: str, source: str) -> None:
    assert len(trespasses(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("edge.messages", "from firmware_bridge.controller import Telemetry\nfrom edge.clock import Clock"),
        ("edge.robot", "from edge.dashboard import Dashboard\nimport edge.loop"),
        ("edge.surprise.surprise", "from edge.memory.concepts import Concepts"),
        ("calibration.alarms", "from edge.surprise import AlarmCalibration"),
        ("export.cli", "import torch, onnx\nfrom calibration import ranges"),
        ("edge.engines.engine", "import onnxruntime"),
    ],
)
def test_the_walls_let_honest_imports_through(module: str, source: str) -> None:
    assert trespasses(source, module) == []


# -- what lies where ---------------------------------------------------------------------------------------------


def test_the_top_level_holds_what_it_should_and_nothing_else() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in tracked()} == TOP_LEVEL


def test_no_module_is_a_drawer_for_everything() -> None:
    drawers = {"util", "utils", "common", "helper", "helpers", "misc", "shared"}
    assert [named(path) for path in [*TREE, *TESTS] if drawers & {path.stem, *path.relative_to(ROOT).parts}] == []


def test_every_module_says_its_reason_in_the_first_line() -> None:
    silent = []
    for path in [*TREE, *TESTS]:
        source = path.read_text()
        if path.name == "__init__.py" and not source.strip():
            continue
        words = ast.get_docstring(ast.parse(source)) or ""
        if not words.partition("\n")[0].strip():
            silent.append(named(path))
    assert silent == []


def test_every_test_folder_mirrors_a_package_or_a_module() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in TESTS} - {Path()}
    strange = [
        each
        for each in folders
        if each.parts[0] not in ("faults", "hardware")
        and not (ROOT / each).is_dir()
        and not (ROOT / each).with_suffix(".py").is_file()
    ]
    assert strange == []


def test_every_command_of_the_entry_points_is_there() -> None:
    scripts = PROJECT["project"]["scripts"].values()
    missing = []
    for target in (*scripts, *PROJECT["project"]["entry-points"]["latentloop.commands"].values()):
        module, _, function = target.partition(":")
        path = ROOT / (module.replace(".", "/") + ".py")
        defined = ast.parse(path.read_text()).body if path.exists() else []
        if not any(isinstance(node, ast.FunctionDef) and node.name == function for node in defined):
            missing.append(target)
    assert missing == []


# -- dependencies ------------------------------------------------------------------------------------------------


def test_every_dependency_has_an_upper_bound() -> None:
    assert [each for each in requirements().values() if "<" not in each.partition(";")[0] and "==" not in each] == []


def test_every_dependency_has_its_reason_and_no_reason_is_stale() -> None:
    reasons = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "dependencies.md").read_text(), re.MULTILINE)
    assert sorted(reasons) == sorted(requirements())


def test_the_lock_pins_every_dependency_and_names_no_place() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    pinned = {name.lower().replace("_", "-") for name in re.findall(r"^([A-Za-z0-9._-]+)==", lock, re.MULTILINE)}
    wanted = set(requirements()) - {each.partition(">")[0] for each in PROJECT["build-system"]["requires"]}
    assert wanted - pinned == set()
    assert lock.startswith("# made by: make lock\n")
    assert re.findall(r"^(nvidia|cuda|triton).*", lock, re.MULTILINE) == []
    assert "://" not in lock and "torch==2.13.0\n" in lock


# -- what must never be committed --------------------------------------------------------------------------------

# Put together here, so that this file does not hold what it looks for.
PLACES = re.compile(
    "|".join(
        [
            r"(?<![\w.}])/" + r"work/\w",
            r"(?<![\w.}])/" + r"root/\w",
            r"(?<![\w.}])/" + r"home/\w+/",
            r"/" + r"opt/(pypi|wheels)",
            r"\bpypi" + r"\.org",
            r"python" + r"hosted\.org",
            r"registry\." + r"npmjs",
            r"deb\." + r"debian\.org",
            r"proxy\." + r"golang",
        ]
    )
)
PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib"}


def test_no_file_is_too_large_or_a_pickle() -> None:
    wrong = []
    for path in tracked():
        head = path.read_bytes()[:2]
        if path.stat().st_size > LARGEST_FILE or path.suffix in PICKLES or (head[:1] == b"\x80" and head[1:] < b"\x08"):
            wrong.append(named(path))
    assert wrong == []


def test_nothing_unpickles() -> None:
    wrong = []
    for path in [*TREE, *TESTS]:
        source = path.read_text()
        wrong += [f"{named(path)}: {name}" for name in imports(source, dotted(path)) if name.split(".")[0] == "pickle"]
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr != "load":
                continue
            keywords = {word.arg: word.value for word in node.keywords}
            owner = getattr(node.func.value, "id", "")
            safely = keywords.get("weights_only")
            if owner == "torch" and not (isinstance(safely, ast.Constant) and safely.value is True):
                wrong.append(f"{named(path)}:{node.lineno}: torch.load without weights_only=True")
            trusting = keywords.get("allow_pickle", ast.Constant(False))
            if owner == "np" and not (isinstance(trusting, ast.Constant) and trusting.value is False):
                wrong.append(f"{named(path)}:{node.lineno}: np.load with allow_pickle")
    assert wrong == []


def test_no_file_names_a_place_on_somebodys_machine_or_a_package_registry() -> None:
    wrong = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        wrong += [f"{named(path)}: {hit.group()}" for hit in PLACES.finditer(text)]
    assert wrong == []
