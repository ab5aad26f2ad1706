"""What trainings have in common: the optimizer, its schedule, and a checkpoint to resume from after a kill at any moment."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class Training:
    """AdamW on a one-cycle schedule with checkpoints in ``folder``.

    rate: peak of the schedule. every_s: seconds between checkpoints. ``first`` is the step to go on at: 0, or where the last
    checkpoint of this folder stopped, whose weights the model then has.
    """

    def __init__(self, model: nn.Module, *, rate: float, steps: int, folder: Path, every_s: float = 60.0) -> None:
        self._model = model
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-3)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(self._optimizer, rate, total_steps=steps, pct_start=0.1)
        self._steps = steps
        self._every_s = every_s
        self._kept_at = time.monotonic()
        self._path = folder / "checkpoint.pt"
        self.first = 0
        folder.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            saved = torch.load(self._path, weights_only=True)
            model.load_state_dict(saved["model"])
            self._optimizer.load_state_dict(saved["optimizer"])
            self._schedule.load_state_dict(saved["schedule"])
            self.first = int(saved["step"])
            print(f"resuming at step {self.first}", flush=True)

    def lower(self, total: Tensor) -> None:
        """One step down."""
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self._schedule.step()

    def keep(self, step: int) -> None:
        """Write a checkpoint after ``step`` if it is time for one, or the last step; the old one stays until it is whole."""
        if time.monotonic() - self._kept_at < self._every_s and step + 1 < self._steps:
            return
        part = self._path.with_suffix(".part")
        parts: dict[str, Any] = {"model": self._model, "optimizer": self._optimizer, "schedule": self._schedule}
        torch.save({**{name: kept.state_dict() for name, kept in parts.items()}, "step": step + 1}, part)
        part.replace(self._path)
        self._kept_at = time.monotonic()
