"""The bundle: a folder that carries one world model from export to the device, and nothing that can execute.

A bundle is ``bundle.toml``, the graphs it names, and calibration files; ``docs/bundles.md`` is its specification.
:func:`load` reads one, holds every file against its hash and every signature against the others, and refuses with one
sentence. Letters in shapes as in :mod:`edge.messages`.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias

import msgspec

from edge.errors import UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FORMAT = 1
MANIFEST = "bundle.toml"
FIXED_PLANS = 2
"""Plans of a rollout that are neither elites nor drawn: the mean, and standing still."""
Part: TypeAlias = Literal["encoder", "predictor", "rollout"]
Precision: TypeAlias = Literal["int8", "fp32"]


class BundleError(UserError):
    """The bundle cannot be used; one sentence: which file and field, why, what to do."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One table of the manifest: unknown keys are refused, defaults are not written."""


class Picture(_Table, frozen=True):
    """What the encoder looks at. height, width: pixels. colour: channel order. Normalisation is inside the graph.

    frames: F, pictures that one latent sees, the newest last; more than 1 for an encoder of video. per_step: how many of
    them are new with each step, evenly spaced."""

    height: int
    width: int
    colour: Literal["bgr"] = "bgr"
    frames: int = 1
    per_step: int = 1


class LatentShape(_Table, frozen=True):
    """T and D of the latent. grid: rows and columns of patch latents, their product is T; absent for a global one."""

    tokens: int
    dim: int
    grid: tuple[int, int] | None = None


class Timing(_Table, frozen=True):
    """step_s: seconds between two frames of the model. context: C, frames that one prediction sees."""

    step_s: float
    context: int


class Action(_Table, frozen=True):
    """One axis the model was trained with. low, high: the physical values, in ``unit``, at -1 and +1."""

    name: str
    unit: str
    low: float
    high: float


class GoalCost(_Table, frozen=True):
    """What the planner minimises. reached_cost: the cost under which a goal counts as reached; how it was chosen stands
    in reached_cost_from. horizon, candidates, elites: K, N and E of the rollout graph."""

    cost: Literal["latent_mse"]
    reached_cost: float
    horizon: int
    candidates: int
    elites: int
    reached_cost_from: str = ""


class TensorSignature(_Table, frozen=True):
    """One input or output of a graph: numpy dtype name and fixed shape."""

    name: str
    dtype: Literal["float32", "uint8"]
    shape: tuple[int, ...]


class Graph(_Table, frozen=True):
    """One ONNX file with fixed shapes. fp32: the graph before quantization, when it is in the bundle."""

    file: str
    inputs: tuple[TensorSignature, ...]
    outputs: tuple[TensorSignature, ...]
    fp32: str | None = None


class Graphs(_Table, frozen=True):
    """The parts. predictor: absent where a camera is watched by memory alone. rollout: the planner's graph, absent in camera
    bundles."""

    encoder: Graph
    predictor: Graph | None = None
    rollout: Graph | None = None


class Manifest(_Table, frozen=True):
    """Everything in ``bundle.toml``. files: path in the bundle to lower-case sha256. int8: what quantization cost."""

    format: int
    name: str
    version: str
    kind: Literal["robot", "camera"]
    made_from: str
    made_by: str
    licence: str
    picture: Picture
    latent: LatentShape
    time: Timing
    graphs: Graphs
    files: dict[str, str]
    attribution: tuple[str, ...] = ()
    actions: tuple[Action, ...] = ()
    goal: GoalCost | None = None
    int8: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle. sha256: hash of the manifest's bytes, which in turn hold the hash of every file."""

    folder: Path
    manifest: Manifest
    sha256: str

    def graph(self, part: Part) -> Graph:
        """The signature of a part. Raises BundleError if the bundle has no such part."""
        graph: Graph | None = getattr(self.manifest.graphs, part)
        if graph is None:
            raise BundleError(f"bundle {self.manifest.name!r} has no {part} graph: export it again with one")
        return graph

    @property
    def predicts(self) -> bool:
        """Whether it has a predictor; without one nothing is known about what comes next, only about what was there."""
        return self.manifest.graphs.predictor is not None

    def path(self, file: str) -> Path | None:
        """Where a file of the bundle lies, or None if the manifest does not list it (optional calibration files)."""
        return self.folder / file if file in self.manifest.files else None


def load(source: str | Path) -> Bundle:
    """Load and verify a bundle: a folder, or the bare name of one that ships with the package (``"rover"``).

    Reads and hashes every listed file, so it costs a few ms per MB of disk. Raises BundleError.
    """
    folder = _find(source)
    manifest_path = folder / MANIFEST
    try:
        raw = manifest_path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{folder} is not a bundle: it has no readable {MANIFEST} ({error.strerror}); "
            "give the folder that the export wrote"
        ) from None
    manifest = parse_manifest(raw, str(manifest_path))
    for conflict in conflicts(manifest):
        raise BundleError(f"{manifest_path}: {conflict}; export the bundle again")
    for name, expected in manifest.files.items():
        _verify(folder, name, expected)
    return Bundle(folder, manifest, hashlib.sha256(raw).hexdigest())


def load_beside(base: Path, name: str) -> Bundle:
    """The bundle that a robot file in the folder ``base`` names: a folder beside it, else one that ships with the package.
    Raises BundleError."""
    return load(base / name if "/" in name or (base / name).is_dir() else name)


def parse_manifest(raw: bytes, where: str) -> Manifest:
    """Manifest from TOML bytes. Raises BundleError naming ``where`` and the field."""
    try:
        table = tomllib.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BundleError(f"{where} is not valid TOML ({error}): export the bundle again") from None
    version = table.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise BundleError(
            f"{where} has bundle format {version} and this latentloop reads up to {FORMAT}: "
            "update latentloop or export the bundle again"
        )
    if version != FORMAT:
        raise BundleError(f"{where} has format {version!r} and it must be {FORMAT}: export the bundle again")
    try:
        return msgspec.convert(table, Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(f"{where} does not follow bundle format {FORMAT}: {error}; export the bundle again") from None


def conflicts(manifest: Manifest) -> Iterator[str]:
    """Everything in the manifest that contradicts something else in it, one clause each."""
    picture, latent, time, goal = manifest.picture, manifest.latent, manifest.time, manifest.goal
    for label, value in (
        ("picture.height", picture.height),
        ("picture.width", picture.width),
        ("picture.frames", picture.frames),
        ("picture.per_step", picture.per_step),
        ("latent.tokens", latent.tokens),
        ("latent.dim", latent.dim),
        ("time.context", time.context),
        ("time.step_s", time.step_s),
    ):
        if not value > 0:
            yield f"{label} is {value} and must be above 0"
    if picture.per_step > picture.frames:
        yield f"picture.per_step is {picture.per_step} and picture.frames {picture.frames}, so that pictures would be left out"
    if manifest.kind == "robot" and picture.frames > 1:
        yield f"kind is 'robot' and picture.frames is {picture.frames}: only cameras may have an encoder of video"
    if latent.grid is not None and latent.grid[0] * latent.grid[1] != latent.tokens:
        yield f"latent.grid {list(latent.grid)} does not make latent.tokens = {latent.tokens}"
    for action in manifest.actions:
        if not action.low < action.high:
            yield f"action {action.name!r} has low {action.low} and high {action.high}, low must be below"
    names = [action.name for action in manifest.actions]
    if len(set(names)) != len(names):
        yield f"two actions share a name in {names}"
    if manifest.kind == "robot" and not (manifest.actions and goal):
        yield "kind is 'robot' and it has no [[actions]] or no [goal]"
    if manifest.graphs.predictor is None and (manifest.kind == "robot" or manifest.actions or goal):
        yield "it has actions or a goal, or is for a robot, and has no [graphs.predictor]"
    if goal is not None and not (goal.reached_cost > 0 and goal.horizon > 0 and goal.candidates > 0):
        yield "goal.reached_cost, goal.horizon and goal.candidates must be above 0"
    if goal is not None and not 0 < goal.elites < goal.candidates - FIXED_PLANS:
        yield (
            f"goal.elites is {goal.elites} and goal.candidates {goal.candidates}: beside {FIXED_PLANS} fixed plans there "
            "must be elites and plans to draw"
        )
    if (manifest.graphs.rollout is None) != (goal is None):
        yield "[goal] and [graphs.rollout] go together and only one is there"
    yield from _graph_conflicts(manifest)
    for name, digest in manifest.files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or str(path) != name or name in ("", ".", MANIFEST):
            yield f"files names {name!r}, which is no plain path inside the bundle"
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            yield f"files.{name!r} has {digest!r}, which is no lower-case sha256"


def signatures(manifest: Manifest) -> dict[Part, tuple[tuple[TensorSignature, ...], tuple[TensorSignature, ...]]]:
    """Inputs and outputs that every part must have, given sizes, actions and goal of the manifest."""
    t, d, c, a = manifest.latent.tokens, manifest.latent.dim, manifest.time.context, len(manifest.actions)

    def floats(name: str, *shape: int) -> TensorSignature:
        return TensorSignature(name, "float32", shape)

    picture = TensorSignature("picture", "uint8", (manifest.picture.frames, manifest.picture.height, manifest.picture.width, 3))
    acted = (floats("actions", 1, c, a),) if a else ()
    expected: dict[Part, tuple[tuple[TensorSignature, ...], tuple[TensorSignature, ...]]] = {
        "encoder": ((picture,), (floats("latent", 1, t, d),)),
        "predictor": ((floats("context", 1, c, t, d), *acted), (floats("predicted", 1, t, d),)),
    }
    if manifest.goal is not None:
        n, k, e = manifest.goal.candidates, manifest.goal.horizon, manifest.goal.elites
        past = (floats("past_actions", 1, c - 1, a),) if c > 1 else ()
        asked = (floats("context", 1, c, t, d), *past, floats("actions", n, k, a), floats("goal", 1, t, d))
        noise = floats("noise", n - FIXED_PLANS - e, k, a)
        search = (floats("step_weights", k), floats("spread", 1, k, a), noise, floats("inertia", 1))
        refined = (floats("refined", n, k, a), floats("next_spread", 1, k, a), floats("best_cost", 1))
        expected["rollout"] = ((*asked, *search), (floats("distance", n, k), *refined))
    return expected


def _graph_conflicts(manifest: Manifest) -> Iterator[str]:
    for part, (inputs, outputs) in signatures(manifest).items():
        graph: Graph | None = getattr(manifest.graphs, part)
        if graph is None:
            continue
        for direction, found, expected in (("inputs", graph.inputs, inputs), ("outputs", graph.outputs, outputs)):
            if found != expected:
                yield f"graphs.{part}.{direction} are {_say(found)} and the sizes in the manifest need {_say(expected)}"
        for file in (graph.file, graph.fp32):
            if file is not None and file not in manifest.files:
                yield f"graphs.{part} names {file!r}, which [files] does not list"


def _say(tensors: tuple[TensorSignature, ...]) -> str:
    return ", ".join(f"{tensor.name} {tensor.dtype} {tensor.shape}" for tensor in tensors) or "none"


def _find(source: str | Path) -> Path:
    folder = Path(source)
    if folder.is_dir():
        return folder
    bare = str(source)
    shipped = Path(str(files("edge"))) / "bundles"
    if PurePosixPath(bare).name == bare and (shipped / bare).is_dir():
        return shipped / bare
    known = sorted(entry.parent.name for entry in shipped.glob(f"*/{MANIFEST}"))
    raise BundleError(
        f"there is no bundle at {bare!r}: give a bundle folder, or the name of one that ships with latentloop "
        f"({', '.join(known) or 'none in this installation'})"
    )


def _verify(folder: Path, name: str, expected: str) -> None:
    try:
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(
            f"bundle file {folder / name} cannot be read ({error.strerror}): copy or export the bundle again"
        ) from None
    if found != expected:
        raise BundleError(
            f"bundle file {folder / name} has sha256 {found[:12]}… and {MANIFEST} says {expected[:12]}…: "
            "it was changed or damaged, copy or export the bundle again"
        )
