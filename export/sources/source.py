"""The one contract between a family of checkpoints and the pipeline that makes bundles of them.

A source is FP32 graphs whose inputs and outputs already are those of docs/bundles.md (uint8 pictures with the
normalisation inside, actions in -1 .. 1), and what the manifest has to say about them. Nothing here needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from edge.bundle import Action, LatentShape, Part, Picture, Timing
from edge.errors import UserError
from edge.messages import Floats

Feed = dict[str, NDArray[Any]]
"""Inputs of one call of a graph, by name."""


class SourceError(UserError):
    """The checkpoint cannot be used; one sentence: which file and key, what is wrong, what to do."""


def check_actions(path: Path, actions: Sequence[Action]) -> None:
    """Raises SourceError if an axis has no range or two share a name. path: the file that describes them."""
    for action in actions:
        if not (action.low < action.high and math.isfinite(action.high - action.low)):
            limits = f"low {action.low} and high {action.high}"
            raise SourceError(f"{path}: action {action.name!r} has {limits}, and low must be below high: correct it")
    names = [action.name for action in actions]
    if len(set(names)) != len(names):
        raise SourceError(f"{path}: two actions share a name in {', '.join(names)}: rename one")


@dataclass(frozen=True)
class Source:
    """A model, ready to be calibrated.

    graphs: encoder, predictor (not where a camera is watched by memory alone) and, with actions, rollout; opset 19, fixed
    shapes. plan_shape: N and K of the rollout graph, None without one. keep_float: layers, by the end of their name, that stay
    as they are. peer: the output of the original framework for a part's inputs, to hold the FP32 graph against; None where
    there is no other framework. licence: of the weights, as far as it is known. made_with: the frameworks, with versions.
    attribution: what licences ask to be named, one line each.
    """

    name: str
    licence: str
    made_from: str
    made_with: str
    picture: Picture
    latent: LatentShape
    time: Timing
    graphs: Mapping[Part, onnx.ModelProto]
    actions: tuple[Action, ...] = ()
    plan_shape: tuple[int, int] | None = None
    keep_float: tuple[str, ...] = ()
    peer: Callable[[Part, Feed], Floats] | None = None
    attribution: tuple[str, ...] = ()
