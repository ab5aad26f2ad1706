"""Every family of checkpoints, small, given to TensorRT's family as each of the graphs that a device may be asked to build: FP32,
INT8, and the FP16 form of both.

Scales come from random inputs: what is asked is whether the graphs are taken, not what they compute.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge.engines.onnx_half import with_half_floats
from export.quantize.pipeline import quantize
from export.refinement import elites_of, refining
from export.sources import lewm
from export.sources.lewm_model import LeWMSpec
from export.sources.source import Source
from export.sources.vit import open_vit
from export.sources.vjepa2 import open_vjepa2
from export.sources.vjepa2_official import open_official
from tests.export.sources import test_vit as vit
from tests.export.sources import test_vjepa as vjepa
from tests.export.sources import vjepa_checkpoints as made
from tests.export.sources.conftest import randomised

pytest.importorskip("tensorrt_rtx", reason="the compile check needs tensorrt-rtx: pip install 'latentloop[compile-check]'")

from tests.export.test_compile import compile_error

pytestmark = pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")


def lewm_source(folder: Path) -> Source:
    spec = LeWMSpec(image=28, layers=1, depth=1, predictor_mlp=64, projector_hidden=64, predictor_projector_hidden=64)
    return lewm.lewm_source(randomised(spec), lewm.Deployment(candidates=32, horizon=2, step_s=0.1), "random weights")


def vjepa2_source(folder: Path) -> Source:
    checkpoint = made.write_hugging_face(folder)
    (checkpoint / "latentloop.toml").write_text("frames = 4\ncontext = 2\n")
    return open_vjepa2(checkpoint)


def official_source(folder: Path, parts: dict[str, object], deployment: str) -> Source:
    (folder / "latentloop.toml").write_text(deployment)
    return open_official(made.write_official(folder / "weights.pt", parts))


def second_source(folder: Path) -> Source:
    return official_source(folder, {"ema_encoder": made.second_state(), "predictor": made.masked_state()}, "size = 48\nframes = 4")


def ac_source(folder: Path) -> Source:
    return official_source(folder, {"encoder": made.encoder_state(), "predictor": made.acting_state()}, vjepa.ARM)


SOURCES: dict[str, Callable[[Path], Source]] = {
    "lewm": lewm_source,
    "vit": lambda folder: open_vit(vit.checkpoint(folder, "vit")),
    "dinov2-registers": lambda folder: open_vit(vit.checkpoint(folder, "dinov2_with_registers")),
    "vjepa2": vjepa2_source,
    "vjepa2.1": second_source,
    "vjepa2-ac": ac_source,
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_form_of_every_graph_compiles(name: str, tmp_path: Path) -> None:
    source = SOURCES[name](tmp_path)
    forms: dict[str, bytes] = {}
    for part, graph in source.graphs.items():
        for precision, model in (
            ("fp32", graph.SerializeToString()),
            ("int8", quantize(graph, lambda graph=graph: [vjepa.feed(graph)], made_from="random inputs").model),
        ):
            if part == "rollout":
                assert source.plan_shape is not None
                model = refining(model, elites_of(source.plan_shape[0]))
            forms[f"{part} {precision}"] = model
            forms[f"{part} {precision} half"] = with_half_floats(model)
    assert len(forms) == 4 * len(source.graphs)
    assert {form: compile_error(model) for form, model in forms.items()} == dict.fromkeys(forms, "")
