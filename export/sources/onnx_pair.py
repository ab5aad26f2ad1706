"""A pair of ONNX files, with a signature file that says what goes in and comes out. Works without torch.

The files may be as their exporter left them: a float encoder gets the normalisation of pictures put before it, the shapes
of docs/bundles.md are reshaped to those of the file, the opset is converted to 19.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import onnx
import onnx.version_converter
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge.bundle import Action, LatentShape, Part, Picture, TensorSignature, Timing
from export.onnx_cleaning import OPSET, clean
from export.sources.source import Source, SourceError, check_actions
from export.unroll import Chain

SCHEMA = "docs/export.md has an example"
CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})


class Normalisation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a float encoder expects: (value / 255 - mean) / std, channels first. mean, std: in the order of ``colour``."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    colour: Literal["rgb", "bgr"] = "rgb"


class PlanShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """N and K of the rollout file."""

    candidates: int
    horizon: int


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The signature file. encoder, predictor, rollout: files beside it; the rollout goes with ``plans`` and actions.
    The fields from ``picture`` on are those of a bundle's manifest."""

    name: str
    encoder: str
    predictor: str
    picture: Picture
    latent: LatentShape
    time: Timing
    licence: str = "not stated in the signature"
    rollout: str | None = None
    plans: PlanShape | None = None
    normalisation: Normalisation = Normalisation()
    actions: tuple[Action, ...] = ()


def open_onnx_pair(path: Path) -> Source:
    """Read the signature file and the graphs that it names. Raises SourceError."""
    signature = read_signature(path)
    t, d, c, a = signature.latent.tokens, signature.latent.dim, signature.time.context, len(signature.actions)

    def floats(name: str, *shape: int) -> TensorSignature:
        return TensorSignature(name, "float32", shape)

    picture = TensorSignature("picture", "uint8", (1, signature.picture.height, signature.picture.width, 3))
    acted = [floats("actions", 1, c, a)] if a else []
    graphs: dict[Part, onnx.ModelProto] = {
        "encoder": _encoder(path.parent / signature.encoder, picture, floats("latent", 1, t, d), signature.normalisation),
        "predictor": _adapted(
            path.parent / signature.predictor, [floats("context", 1, c, t, d), *acted], floats("predicted", 1, t, d)
        ),
    }
    plan_shape = None
    if signature.rollout is not None and signature.plans is not None:
        n, k = plan_shape = signature.plans.candidates, signature.plans.horizon
        past = [floats("past_actions", 1, c - 1, a)] if c > 1 else []
        inputs = [floats("context", 1, c, t, d), *past, floats("actions", n, k, a), floats("goal", 1, t, d)]
        graphs["rollout"] = _adapted(path.parent / signature.rollout, inputs, floats("distance", n, k))
    return Source(
        name=signature.name,
        licence=signature.licence,
        made_from=f"{signature.encoder} and {signature.predictor}",
        made_with=f"onnx {onnx.__version__}",
        picture=signature.picture,
        latent=signature.latent,
        time=signature.time,
        graphs=graphs,
        actions=signature.actions,
        plan_shape=plan_shape,
    )


def read_signature(path: Path) -> Signature:
    """Raises SourceError."""
    try:
        signature = msgspec.toml.decode(path.read_bytes(), type=Signature)
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}): give the signature file; {SCHEMA}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} is not valid: {error}; {SCHEMA}") from None
    latent = signature.latent
    sizes = {
        "picture.height": signature.picture.height,
        "picture.width": signature.picture.width,
        "latent.tokens": latent.tokens,
        "latent.dim": latent.dim,
        "time.step_s": signature.time.step_s,
        "time.context": signature.time.context,
    }
    for key, value in sizes.items():
        if not (value > 0 and math.isfinite(value)):
            raise SourceError(f"{path} has {key} {value} and it must be above 0: correct it")
    if latent.grid is not None and latent.grid[0] * latent.grid[1] != latent.tokens:
        grid = list(latent.grid)
        raise SourceError(f"{path} has latent.grid {grid}, which does not make latent.tokens {latent.tokens}: correct it")
    if not all(s > 0 for s in signature.normalisation.std):
        raise SourceError(f"{path} has normalisation.std {list(signature.normalisation.std)} and all must be above 0: correct it")
    check_actions(path, signature.actions)
    if signature.plans is not None and not (signature.plans.candidates > 0 and signature.plans.horizon > 0):
        raise SourceError(f"{path}: plans.candidates and plans.horizon must be above 0: correct them")
    together = {"actions": bool(signature.actions), "rollout": signature.rollout is not None, "plans": signature.plans is not None}
    if len(set(together.values())) != 1:
        lacking = ", ".join(key for key, there in together.items() if not there)
        raise SourceError(f"{path} lacks {lacking}: a model with actions needs actions, rollout and plans, one without has none")
    return signature


def _encoder(path: Path, picture: TensorSignature, latent: TensorSignature, how: Normalisation) -> onnx.ModelProto:
    """The encoder on uint8 BGR pictures, whatever it takes: those, or normalised floats with channels first."""
    model = _read(path)
    value = _inputs(model)[0]
    _, height, width, _ = picture.shape
    if value.type.tensor_type.elem_type == TensorProto.UINT8:
        return _adapt(path, model, [picture], latent)
    chain = Chain()
    swap = [2, 1, 0] if how.colour == "rgb" else [0, 1, 2]
    scale = 1.0 / (255.0 * np.array(how.std))
    constants: dict[str, NDArray[np.generic]] = {
        "channel_order": np.array(swap, np.int64),
        "pixel_scale": scale.astype(np.float32).reshape(1, 3, 1, 1),
        "pixel_shift": (-np.array(how.mean) / how.std).astype(np.float32).reshape(1, 3, 1, 1),
    }
    chain.constants.update({name: numpy_helper.from_array(array, name) for name, array in constants.items()})
    chain.nodes += [
        helper.make_node("Cast", ["picture"], ["floats"], "to_float", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], "channels_first", perm=[0, 3, 1, 2]),
        helper.make_node("Gather", ["planes", "channel_order"], ["ordered"], "colour_order", axis=1),
        helper.make_node("Mul", ["ordered", "pixel_scale"], ["scaled"], "scale_pixels"),
        helper.make_node("Add", ["scaled", "pixel_shift"], ["normalised"], "shift_pixels"),
    ]
    pixels = TensorSignature("normalised", "float32", (1, 3, height, width))
    return _adapt(path, model, [pixels], latent, chain, [picture])


def _adapted(path: Path, inputs: Sequence[TensorSignature], output: TensorSignature) -> onnx.ModelProto:
    return _adapt(path, _read(path), inputs, output)


def _adapt(
    path: Path,
    model: onnx.ModelProto,
    inputs: Sequence[TensorSignature],
    output: TensorSignature,
    chain: Chain | None = None,
    given: Sequence[TensorSignature] | None = None,
) -> onnx.ModelProto:
    """The model with these inputs, matched by name or else by order, and this output, reshaped where only the shape
    differs. chain: nodes that come before and make ``inputs`` from ``given``."""
    chain = chain or Chain()
    values = _inputs(model)
    if len(values) != len(inputs):
        wanted = ", ".join(f"{i.name} {list(i.shape)}" for i in inputs)
        raise SourceError(f"{path} has {len(values)} inputs and the signature needs {len(inputs)} ({wanted}): export it so")
    named = {value.name: value for value in values}
    wires: dict[str, str] = {}
    for place, wanted_input in enumerate(inputs):
        value = named.get(wanted_input.name, values[place])
        shape = _fixed(path, value, wanted_input)
        wires[value.name] = wanted_input.name
        if shape != wanted_input.shape:
            wires[value.name] = _reshape(chain, wanted_input.name, f"{wanted_input.name}_as_given", shape)
    if len(wires) != len(inputs):
        raise SourceError(f"{path} has inputs {', '.join(named)}, only some named as in the signature: rename all or none")
    try:
        del model.graph.value_info[:]
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise SourceError(f"{path}: shapes do not fit together ({_first(error)}): export it with fixed shapes") from None
    ready = chain.append(model, wires, "model")
    made = model.graph.output[0]
    sizes = [d.dim_value for d in made.type.tensor_type.shape.dim]
    if made.type.tensor_type.elem_type != TensorProto.FLOAT or math.prod(sizes) != math.prod(output.shape):
        kind = TensorProto.DataType.Name(made.type.tensor_type.elem_type).lower()
        raise SourceError(
            f"{path} gives {made.name!r} {kind} {sizes or '[]'} and the signature makes it float {list(output.shape)}: "
            "correct the signature, or export the model so that this is its first output"
        )
    _reshape(chain, ready[made.name], output.name, output.shape)
    inward = [_value(tensor) for tensor in (given or inputs)]
    try:
        whole = chain.finish(inward, [_value(output)], model)
        clean(whole)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise SourceError(f"{path} is no valid graph with these inputs ({_first(error)}): export it again") from None
    return whole


def _read(path: Path) -> onnx.ModelProto:
    """The model, at opset 19, plain ONNX operators only. Raises SourceError."""
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror or error}): check the signature file") from None
    except Exception as error:  # noqa: BLE001 - protobuf and onnx raise unrelated types for a broken file
        raise SourceError(f"{path} is no whole ONNX model ({_first(error)}): copy or export it again") from None
    foreign = sorted({node.domain for node in model.graph.node if node.domain not in ("", "ai.onnx")})
    if foreign:
        raise SourceError(f"{path} uses operators of {', '.join(foreign)}: export it with plain ONNX operators")
    flowing = sorted({node.op_type for node in model.graph.node} & CONTROL_FLOW)
    if flowing:
        raise SourceError(f"{path} uses {', '.join(flowing)}: export it with fixed shapes, so that nothing is left to decide")
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise SourceError(f"{path} has {tensor.name!r} with values that are not finite: export an unbroken checkpoint")
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if version != OPSET:
        try:
            model = onnx.version_converter.convert_version(model, OPSET)
        except Exception as error:  # noqa: BLE001 - the converter raises RuntimeError and others
            raise SourceError(
                f"{path} has opset {version} and does not convert to {OPSET} ({_first(error)}): export it with opset {OPSET}"
            ) from None
    return model


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    stored = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in stored]


def _fixed(path: Path, value: onnx.ValueInfoProto, wanted: TensorSignature) -> tuple[int, ...]:
    """The input's shape, with sizes left open taken from the signature, also in the model. Raises SourceError."""
    tensor = value.type.tensor_type
    kind = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8}[wanted.dtype]
    if tensor.elem_type != kind:
        found = TensorProto.DataType.Name(tensor.elem_type).lower()
        raise SourceError(f"{path} takes {value.name!r} as {found} and the signature needs {wanted.dtype}: export it so")
    dims = list(tensor.shape.dim)
    if len(dims) == len(wanted.shape):
        for dim, size in zip(dims, wanted.shape, strict=True):
            if not dim.dim_value:
                dim.dim_value = size
    shape = tuple(dim.dim_value for dim in dims)
    if math.prod(shape) != math.prod(wanted.shape):
        said = [dim.dim_value or dim.dim_param or "?" for dim in dims]
        raise SourceError(
            f"{path} takes {value.name!r} {said} and the signature makes it {list(wanted.shape)}: correct the signature, or "
            "export the model with fixed shapes"
        )
    return shape


def _reshape(chain: Chain, source: str, target: str, shape: Sequence[int]) -> str:
    name = f"{target}_shape"
    chain.constants[name] = numpy_helper.from_array(np.array(shape, np.int64), name)
    chain.nodes.append(helper.make_node("Reshape", [source, name], [target], f"reshape_{target}"))
    return target


def _value(tensor: TensorSignature) -> onnx.ValueInfoProto:
    kind = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8}[tensor.dtype]
    return helper.make_tensor_value_info(tensor.name, kind, tensor.shape)


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:160]
