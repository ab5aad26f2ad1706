"""A bundle taken apart again, to be measured anew: its quantized parts, and what to hold them against."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from calibration.activations import ScaleTable
from edge.bundle import Bundle, Part
from edge.engines import EngineSettings, load_engine
from edge.engines.engine import Engine
from edge.errors import UserError
from export.layers import without_rounding
from export.quantize.linears import find_linears
from export.quantize.pipeline import Quantized
from export.sources.source import Source

PARTS: tuple[Part, ...] = ("encoder", "predictor", "rollout")
OWN_GRAPHS = "its FP32 graphs"
OWN_WEIGHTS = "its own weights in float arithmetic, so that the rounding of weights does not show"


@dataclass(frozen=True)
class Parts:
    """exact: engines in FP32. quantized: the parts as the export made them. against: what exact is, for people."""

    exact: dict[Part, Engine]
    quantized: dict[Part, Quantized]
    against: str


def take_apart(bundle: Bundle, against: Bundle | None = None) -> Parts:
    """against: hold it against this one's FP32 graphs instead of its own. Raises UserError."""
    present = [part for part in PARTS if getattr(bundle.manifest.graphs, part) is not None]
    twins = {part: bundle.graph(part).fp32 for part in present}
    said = OWN_GRAPHS if all(twins.values()) else OWN_WEIGHTS
    if against is not None:
        said = _usable(bundle, against, present)
    exact = {part: load_engine(against or bundle, part, EngineSettings(precision="fp32")) for part in present}
    quantized: dict[Part, Quantized] = {}
    for part in present:
        model = (bundle.folder / bundle.graph(part).file).read_bytes()
        twin = twins[part]
        fp32 = onnx.load(str(bundle.folder / twin)) if twin else without_rounding(onnx.load_from_string(model))
        scales = bundle.path(f"calibration/{part}.scales.json")
        table = ScaleTable.load(scales) if scales else ScaleTable("max", "unknown footage", {})
        chosen = tuple(linear for linear in find_linears(fp32) if linear.activation in table.tensors)
        quantized[part] = Quantized(model, table, fp32, chosen, {})
    return Parts(exact, quantized, said)


def source_of(bundle: Bundle) -> Source:
    """What a checkpoint would say about itself, without its graphs."""
    manifest = bundle.manifest
    goal = manifest.goal
    return Source(
        name=manifest.name,
        licence=manifest.licence,
        made_from=manifest.made_from,
        made_with=manifest.made_by,
        picture=manifest.picture,
        latent=manifest.latent,
        time=manifest.time,
        graphs={},
        actions=manifest.actions,
        plan_shape=(goal.candidates, goal.horizon) if goal else None,
    )


def _usable(bundle: Bundle, against: Bundle, present: list[Part]) -> str:
    """Raises UserError if the other bundle is another model's or has no FP32 graphs."""
    for part in present:
        graph = against.graph(part)
        if graph.fp32 is None:
            raise UserError(f"bundle {against.folder} has no FP32 graph of the {part}: export it with --fp32")
        mine = bundle.graph(part)
        if (mine.inputs, mine.outputs) != (graph.inputs, graph.outputs):
            raise UserError(f"the {part} of bundle {against.folder} has other inputs or outputs: give one of the same model")
    return f"the FP32 graphs of {against.manifest.name} ({against.sha256[:12]})"
