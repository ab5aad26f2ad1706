"""From a model of the V-JEPA 2 family in memory, without actions, to a source."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx
import torch
from torch import Tensor

from edge.bundle import LatentShape, Part, Picture, Timing
from edge.messages import Floats
from export.onnx_graphs import to_onnx
from export.sources.source import Feed, Source
from export.sources.vjepa_deployment import Watching
from export.sources.vjepa_graphs import EncoderGraph, PredictorGraph, normalised
from export.sources.vjepa_model import ClipSpec, Encoder, MaskedPredictor


def watching_source(encoder: Encoder, predictor: MaskedPredictor | None, deployment: Watching, made_from: str) -> Source:
    """Traces the graphs; some ten seconds. Models are in evaluation mode. Without a predictor, memory alone watches."""
    clip, width, context = encoder.clip, encoder.spec.width, deployment.steps(encoder.clip.tubelet)
    picture = torch.zeros(clip.frames, *clip.size, 3, dtype=torch.uint8)
    plain: dict[Part, Callable[[Tensor], Tensor]] = {"encoder": partial(encoded, encoder)}
    graphs: dict[Part, onnx.ModelProto] = {"encoder": to_onnx(EncoderGraph(encoder), {"picture": picture}, ["latent"])}
    if predictor is not None:
        plain["predictor"] = reading = PredictorGraph(predictor)
        latents = torch.zeros(1, context, clip.patches, width)
        graphs["predictor"] = to_onnx(reading, {"context": latents}, ["predicted"])

    @torch.no_grad()
    def peer(part: Part, feed: Feed) -> Floats:
        computed: Floats = plain[part](torch.from_numpy(np.array(next(iter(feed.values()))))).numpy()
        return computed

    return Source(
        name=deployment.name,
        licence=deployment.licence,
        made_from=made_from,
        made_with=f"torch {torch.__version__}",
        picture=picture_of(clip),
        latent=LatentShape(clip.patches, width, clip.grid),
        time=Timing(deployment.step_s, context),
        graphs=graphs,
        peer=peer,
    )


def picture_of(clip: ClipSpec) -> Picture:
    """The manifest's words for a clip: each step brings one tubelet."""
    return Picture(*clip.size, frames=clip.frames, per_step=min(clip.tubelet, clip.frames))


def encoded(encoder: Encoder, clip: Tensor) -> Tensor:
    """What the plain encoder makes of raw pictures, uint8 (F, H, W, 3) BGR -> (1, S, D); a single one is shown as often as a
    tubelet has places."""
    pixels = normalised(clip)
    if encoder.clip.frames == 1 and not encoder.clip.own_tokenizer:
        pixels = pixels.expand(-1, -1, encoder.clip.tubelet, -1, -1)
    tokens: Tensor = encoder(pixels, newest=True)
    return tokens
