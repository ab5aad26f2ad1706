"""Weights from a file that nobody has to trust: nothing in it is executed, and every key is held against the model."""

from __future__ import annotations

import difflib
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from export.sources.source import SourceError

WRAPPERS = ("model", "state_dict")
"""Names under which training loops store a state dictionary in a larger checkpoint."""


def load_state(path: Path) -> dict[str, Tensor]:
    """The state dictionary in a ``.pt`` or ``.safetensors`` file, on the CPU. Raises SourceError."""
    saved = read_weights(path)
    for wrapper in WRAPPERS:
        if isinstance(saved, dict) and isinstance(saved.get(wrapper), dict):
            saved = saved[wrapper]
    if not isinstance(saved, dict) or not all(isinstance(value, Tensor) for value in saved.values()):
        raise SourceError(f"{path} holds no state dictionary of tensors: save model.state_dict() and nothing else")
    return saved


def read_weights(path: Path) -> Any:
    """What a ``.pt`` or ``.safetensors`` file holds, on the CPU; of a ``.pt`` file only those tensors are read that are looked
    at. Raises SourceError."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror or error}): check the path") from None
    except ImportError:
        raise SourceError(f"{path} needs the package safetensors: install latentloop[export]") from None
    except Exception as error:  # noqa: BLE001 - torch and safetensors raise half a dozen types for a broken file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise SourceError(
            f"{path} is no whole file of plain weights ({reason[:120]}): copy it again, and if it is a pickled module "
            "save its state_dict() instead"
        ) from None


def fit(
    model: nn.Module,
    state: Mapping[str, Tensor],
    path: Path,
    remedy: str,
    *,
    sized_by: str = "config.json",
    named: Callable[[str], str] = lambda key: key,
) -> None:
    """Load ``state`` into ``model``, every key of both. remedy: what to do if they differ. sized_by: what the model's sizes
    come from. named: what the file calls a key of the model. A model on the device "meta" takes the tensors of ``state`` as
    they are, without a copy. Raises SourceError naming the first key that is missing, unknown, of another shape or not
    finite."""
    wanted = model.state_dict()
    missing = [key for key in wanted if key not in state]
    unknown = [key for key in state if key not in wanted]
    if missing:
        likely = difflib.get_close_matches(missing[0], unknown, 1)
        hint = f", the nearest it has is {named(likely[0])!r}" if likely else ""
        raise SourceError(f"{path} lacks {named(missing[0])!r} ({len(missing)} of {len(wanted)} keys are missing{hint}): {remedy}")
    if unknown:
        raise SourceError(f"{path} has {named(unknown[0])!r}, which this model does not know ({len(unknown)} such keys): {remedy}")
    for key, value in state.items():
        if value.shape != wanted[key].shape:
            found, needed = tuple(value.shape), tuple(wanted[key].shape)
            raise SourceError(f"{path} has {named(key)!r} of shape {found} and {sized_by} makes it {needed}: {remedy}")
        if not torch.isfinite(value).all():
            raise SourceError(
                f"{path} has {named(key)!r} with values that are not finite: take a checkpoint from before training broke"
            )
    model.load_state_dict(dict(state), assign=any(parameter.is_meta for parameter in model.parameters()))
