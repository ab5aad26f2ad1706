"""What is known of one plan: what it was built from and for, what its trial showed, and whether it fits a machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec

from edge.bundle import Part, Precision
from edge.engines.tensorrt.layers import Layers
from edge.engines.tensorrt.library import Machine
from edge.engines.trial import Verdict


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that must be equal for a plan to be used again. flags: how it was built, by recipe and effort."""

    machine: Machine
    onnx_sha256: str
    flags: tuple[str, ...]

    def digest(self) -> str:
        """Sixteen hexadecimal digits that stand for all of it."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One plan. graph: which of the part's two it was built from. built: when, seconds since the epoch, a label.
    verdict: None from the start of its build to the end of its trial, so one that stays None killed the process that
    tried it. attempts: how often that was tried. plan_sha256: empty if no plan was kept."""

    key: Key
    bundle: str
    part: Part
    recipe: str
    graph: Precision
    built: float
    build_seconds: float = 0.0
    plan_sha256: str = ""
    quantized_linears: int = 0
    layers: Layers | None = None
    verdict: Verdict | None = None
    attempts: int = 1
    format: int = 1

    @property
    def accepted(self) -> bool:
        return self.verdict is not None and self.verdict.accepted

    @property
    def milliseconds(self) -> float:
        """Of one call; infinite if it was never measured."""
        measured = self.verdict.milliseconds if self.verdict is not None else None
        return float("inf") if measured is None else measured

    @property
    def precision(self) -> str:
        """``"int8"`` only if as many products run in integers as the graph has quantized Linears."""
        integers = self.layers.integer_gemms if self.layers is not None else 0
        if integers:
            return "int8" if integers >= self.quantized_linears else "mixed"
        return "fp16" if "fp16" in self.recipe else "fp32"


def mismatches(key: Key, machine: Machine, onnx_sha256: str) -> Iterator[str]:
    """Every reason why a plan must not be used on this machine for this graph, one clause each."""
    there = key.machine
    if there.tensorrt != machine.tensorrt:
        yield f"it was built by TensorRT {there.tensorrt} and this is {machine.tensorrt}"
    if there.compute_capability != machine.compute_capability:
        yield f"it was built for compute capability {there.compute_capability} and this GPU has {machine.compute_capability}"
    if there.gpu != machine.gpu:
        yield f"it was built on {there.gpu!r} and this is {machine.gpu!r}"
    if key.onnx_sha256 != onnx_sha256:
        yield f"it was built from a graph with sha256 {key.onnx_sha256[:12]}… and the bundle's is {onnx_sha256[:12]}…"
