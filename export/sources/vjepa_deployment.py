"""What a checkpoint of the V-JEPA 2 family does not say and ``latentloop.toml`` beside it does."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from export.sources.deployment_file import read_deployment_file
from export.sources.source import SourceError
from export.sources.vjepa_model import ClipSpec

DEPLOYMENT = "latentloop.toml"


class Watching(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For models without actions. step_s: seconds from one tubelet to the next. frames: pictures of a clip; 1 encodes every
    picture by itself. context: steps that the predictor sees; 0 for as many as a clip has, less the predicted one.
    skip_predictor: export the encoder alone. size: height and width of the picture, where the checkpoint does not say it."""

    name: str = "vjepa2"
    licence: str = "not stated beside the checkpoint"
    step_s: float = 0.5
    frames: int = 16
    context: int = 0
    skip_predictor: bool = False
    size: int | None = None

    def steps(self, tubelet: int) -> int:
        """C."""
        return self.context or max(1, self.frames // tubelet - 1)


def read_watching(path: Path) -> Watching:
    """The file, or what is assumed without one. Raises SourceError."""
    found = read_deployment_file(path, Watching)
    if not 0 < found.step_s < math.inf:
        raise SourceError(f"{path} has step_s {found.step_s} and it must be above 0: correct it")
    if found.frames < 1 or found.context < 0 or (found.size is not None and found.size < 1):
        raise SourceError(f"{path} has frames {found.frames}, context {found.context} and size {found.size}: none may be below 1")
    return found


def clip_of(path: Path, size: int, patch: int, tubelet: int, frames: int, *, own_tokenizer: bool = False) -> ClipSpec:
    """What the encoder looks at. path: of the file that says how many frames. Raises SourceError."""
    if size % patch or not size:
        raise SourceError(f"{path} has a picture of {size} pixels and patches of {patch}, which do not divide it: correct its size")
    if frames != 1 and frames % tubelet:
        raise SourceError(f"{path} has frames {frames} and tubelets of {tubelet}, which do not divide it: give a multiple, or 1")
    return ClipSpec((size, size), patch, tubelet, frames, own_tokenizer)
