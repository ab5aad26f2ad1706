"""How far a build is, from the nested phases that TensorRT reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _Phase:
    parent: str | None
    total: int
    done: int = 0


class Phases:
    """The phases that have begun and not ended. A step of one counts as much as any other, whatever time it takes, because
    more is not told."""

    def __init__(self) -> None:
        self._open: dict[str, _Phase] = {}
        self._reached = 0.0

    def begin(self, name: str, parent: str | None, total: int) -> None:
        self._open[name] = _Phase(parent, total)

    def step(self, name: str, done: int) -> float:
        """``done`` steps of a phase are done. The share of all, 0 to 1, which never falls."""
        if name in self._open:
            self._open[name].done = done
        roots = [each for each, phase in self._open.items() if phase.parent not in self._open]
        self._reached = max([self._reached, *map(self._share, roots)])
        return self._reached

    def end(self, name: str) -> None:
        self._open.pop(name, None)

    def _share(self, name: str) -> float:
        phase = self._open[name]
        inside = max([0.0, *(self._share(child) for child, each in self._open.items() if each.parent == name)])
        return min(1.0, (phase.done + inside) / phase.total) if phase.total else 0.0
