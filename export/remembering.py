"""An engine that computes nothing twice: verification asks the same of the same graph again for every layer that is tried."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from edge.engines.engine import Array, Engine, EngineInfo, TensorSpec

MEMORY_BYTES = 256 << 20


class Remembering:
    """Implements edge.engines.engine.Engine on another one. Outputs are kept up to MEMORY_BYTES; what comes later is computed
    every time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[bytes, list[Array]] = {}
        self._left = MEMORY_BYTES

    @property
    def info(self) -> EngineInfo:
        return self._engine.info

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        return self._engine.inputs

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        return self._engine.outputs

    def input(self, name: str) -> Array:
        return self._engine.input(name)

    def output(self, name: str) -> Array:
        return self._engine.output(name)

    def enqueue(self) -> None:
        asked = hashlib.sha256()
        for name in self.inputs:
            asked.update(np.ascontiguousarray(self.input(name)).data)
        key = asked.digest()
        if key in self._known:
            for name, values in zip(self.outputs, self._known[key], strict=True):
                self.output(name)[...] = values
            return
        self._engine.enqueue()
        self._engine.wait()
        found = [self.output(name).copy() for name in self.outputs]
        size = sum(values.nbytes for values in found)
        if size <= self._left:
            self._left -= size
            self._known[key] = found

    def wait(self) -> None:
        """Nothing to wait for: :meth:`enqueue` has done the work."""

    def close(self) -> None:
        self._known.clear()
        self._engine.close()
