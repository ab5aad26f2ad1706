"""The one contract behind which every inference runtime sits.

An engine is one graph with fixed shapes and buffers that are allocated once. The caller writes into
:meth:`Engine.input`, calls :meth:`Engine.enqueue`, may do something else, calls :meth:`Engine.wait` and reads
:meth:`Engine.output`. A CPU runtime does the work inside ``enqueue``; a GPU runtime copies and launches there and
synchronises in ``wait``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.errors import UserError

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output: fixed shape, numpy dtype name (``"float32"``, ``"uint8"``)."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What really runs, as found out after loading, never as hoped for.

    runtime: for people, e.g. ``"onnxruntime 1.32.0 cpu"``. precision: ``"int8"`` only if every quantized Linear of the
    graph runs as an integer GEMM, else ``"fp32"`` or ``"mixed"``. quantized_linears: Linears that are quantized
    in the model file. integer_gemms: integer GEMMs counted in the optimised graph that the runtime executes.
    """

    runtime: str
    precision: str
    quantized_linears: int
    integer_gemms: int


class EngineError(UserError):
    """The engine cannot be made or run; one sentence: what is wrong, where, what to do."""


class Engine(Protocol):
    """One loaded graph. Not thread-safe: one thread, the loop's, uses it."""

    @property
    def info(self) -> EngineInfo:
        """What runs."""

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        """By name."""

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        """By name."""

    def input(self, name: str) -> Array:
        """The host buffer of an input; write into it before :meth:`enqueue`. Always the same array."""

    def output(self, name: str) -> Array:
        """The host buffer of an output; valid from :meth:`wait` to the next :meth:`enqueue`. Always the same array."""

    def enqueue(self) -> None:
        """Start the work on what the input buffers hold. Raises EngineError."""

    def wait(self) -> None:
        """Block until the outputs are there. Raises EngineError."""

    def close(self) -> None:
        """Give everything back. Safe to call twice."""


def write_input(engine: Engine, name: str, values: Array) -> None:
    """Copy values into an input buffer, shape for shape. Raises EngineError naming the input and both shapes."""
    buffer = engine.input(name)
    if values.shape != buffer.shape:
        raise EngineError(f"engine input {name!r} is {buffer.shape} and was given {values.shape}: check the bundle")
    np.copyto(buffer, values, casting="same_kind")
