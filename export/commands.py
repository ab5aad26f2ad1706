"""``latentloop export KIND``: a checkpoint and footage in, an accepted bundle out."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge.cameras.source import parse_source
from edge.errors import UserError
from edge.intrinsics import Intrinsics
from export.extra import needs_extra
from export.lint.target import CPU, TARGETS
from export.progress_line import ProgressLine
from export.report.command import write_page

if TYPE_CHECKING:
    from export.sources.source import Source

METHODS = ("mse", "percentile", "max")
MOST_SECONDS = 86_400.0
Subparsers = argparse._SubParsersAction  # argparse has no public name for it

_LEWM_EXAMPLES = """examples:
  latentloop export lewm checkpoints/lewm-pusht --frames footage.mp4 --out bundles/pusht
  latentloop export lewm checkpoints/lewm-pusht --frames pictures/ --out bundles/pusht --keep-float blocks.11.mlp.down

The folder holds config.json and weights.pt or weights.safetensors, and may hold latentloop.toml (docs/export.md), which says
how long a step is and what the actions are. exit codes: 0 written, 1 below the gate and nothing written, 2 bad input
"""
_VIT_EXAMPLES = """examples:
  latentloop export dinov2 checkpoints/dinov2-small --frames yard.mp4 --out bundles/yard
  latentloop calibrate alarms yard.mp4 --bundle bundles/yard
  latentloop watch yard.mp4 --bundle bundles/yard

The folder is a Hugging Face model with config.json and model.safetensors: DINOv2 (with or without registers), ViT, DeiT, I-JEPA
or ViT-MSN. It may hold preprocessor_config.json, which says how pictures are normalised, and latentloop.toml (docs/export.md).
The bundle has no predictor: it watches a camera by memory alone. exit codes: 0 written, 1 below the gate and nothing written,
2 bad input
"""
_ONNX_EXAMPLES = """examples:
  latentloop export onnx models/signature.toml --frames footage.mp4 --out bundles/mine
  latentloop export onnx models/signature.toml --frames pictures/ --out bundles/mine --json

The signature names the ONNX files beside it and describes their inputs (docs/export.md). Works without torch.
exit codes: 0 written, 1 below the gate and nothing written, 2 bad input
"""
_VJEPA2_EXAMPLES = """examples:
  latentloop export vjepa2 checkpoints/vjepa2-vitl-fpc64-256 --frames footage.mp4 --out bundles/vjepa2

The folder holds config.json and model.safetensors, as transformers writes a VJEPA2Model, and may hold latentloop.toml
(docs/export.md), which says how long a step is and how many pictures a clip has. transformers is not needed.
exit codes: 0 written, 1 below the gate and nothing written, 2 bad input
"""
_OFFICIAL_EXAMPLES = """examples:
  latentloop export vjepa2-official checkpoints/vitl.pt --frames footage.mp4 --out bundles/vjepa2
  latentloop export vjepa2-official checkpoints/vjepa2-ac-vitg.pt --frames arm.mp4 --out bundles/arm

The file is V-JEPA 2, 2.1 or 2-AC as facebookresearch published it; latentloop.toml beside it (docs/export.md) says how long a
step is and, for 2-AC, what the arm's actions are. exit codes: 0 written, 1 below the gate and nothing written, 2 bad input
"""


def register_lewm(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add ``lewm`` to the kinds of ``latentloop export``."""
    _add(subparsers, "lewm", "a LeWorldModel checkpoint into an INT8 bundle", "folder of the checkpoint", _LEWM_EXAMPLES, _lewm)


def register_vjepa2(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add ``vjepa2`` to the kinds of ``latentloop export``."""
    purpose = "a V-JEPA 2 of Hugging Face into an INT8 bundle"
    _add(subparsers, "vjepa2", purpose, "folder of the checkpoint", _VJEPA2_EXAMPLES, _vjepa2)


def register_vjepa2_official(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add ``vjepa2-official`` to the kinds of ``latentloop export``."""
    purpose = "a V-JEPA 2, 2.1 or 2-AC of facebookresearch into an INT8 bundle"
    _add(subparsers, "vjepa2-official", purpose, "the .pt file", _OFFICIAL_EXAMPLES, _vjepa2_official)


def register_vit(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add ``dinov2``, also known as ``vit``, to the kinds of ``latentloop export``."""
    purpose = "a Hugging Face vision encoder into an INT8 bundle without a predictor"
    _add(subparsers, "dinov2", purpose, "folder of the model", _VIT_EXAMPLES, _vit, aliases=("vit",))


def register_onnx(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add ``onnx`` to the kinds of ``latentloop export``."""
    _add(subparsers, "onnx", "a pair of ONNX files into an INT8 bundle", "signature file (TOML)", _ONNX_EXAMPLES, _onnx)


def _add(
    subparsers: Subparsers[argparse.ArgumentParser],
    kind: str,
    purpose: str,
    path: str,
    examples: str,
    open_source: Callable[[Path], Source],
    aliases: tuple[str, ...] = (),
) -> None:
    parser = subparsers.add_parser(
        kind,
        aliases=aliases,
        help=purpose,
        description=f"Turn {purpose}, calibrated on your footage and verified on footage that calibration has not seen.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", type=Path, metavar="PATH", help=path)
    add_frames(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="folder of the bundle, the report beside it")
    parser.add_argument(
        "--keep-float",
        action="append",
        default=[],
        metavar="LAYER",
        help="leave layers whose name ends so in float (may be repeated)",
    )
    parser.add_argument(
        "--no-smooth",
        dest="smoothing",
        action="store_false",
        help="do not fold outlier channels of norms into the weights behind them (SmoothQuant)",
    )
    parser.add_argument(
        "--method", choices=METHODS, default="mse", help="where INT8 scales clip (default: %(default)s; docs/quantizer.md says why)"
    )
    parser.add_argument(
        "--dynamic",
        action="store_true",
        help="no calibration: scales are found in every call; for CPUs only, the footage then serves to verify",
    )
    parser.add_argument("--fp32", action="store_true", help="add the graphs from before quantization to the bundle")
    parser.add_argument(
        "--no-samples",
        dest="samples",
        action="store_false",
        help="leave out the few pictures of the footage that the device tries its engines on",
    )
    parser.add_argument("--labels", type=Path, metavar="FILE.toml", help="clips with anomalies marked, for AUROC (docs/export.md)")
    parser.add_argument(
        "--target",
        choices=(*TARGETS, CPU),
        help="refuse what this device will not run (default: what the lint finds for each JetPack is only told)",
    )
    parser.add_argument("--restart", action="store_true", help="do not go on from an interrupted export, begin anew")
    parser.add_argument("--json", action="store_true", help="print one JSON object with the report")
    parser.set_defaults(run=lambda args: _export(args, open_source))


def add_frames(parser: argparse.ArgumentParser) -> None:
    """Add where footage comes from."""
    parser.add_argument(
        "--frames",
        required=True,
        metavar="SOURCE",
        help="video file, folder of pictures, or a live camera (docs/cameras.md); MCAP cannot be read yet",
    )
    parser.add_argument("--seconds", type=_seconds, metavar="N", help="of a live camera: how long to film it")
    parser.add_argument(
        "--intrinsics",
        type=Path,
        metavar="FILE",
        help="take the lens out of the footage: what 'latentloop calibrate camera' wrote; the same here and on the device",
    )


def reading(frames: str, seconds: float | None) -> str:
    """What is being done meanwhile, for people."""
    return "reading the footage" if seconds is None else f"filming {parse_source(frames).label} for {seconds:g} s"


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value <= MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0 and up to {MOST_SECONDS:g}")
    return value


def open_any(path: Path) -> Source:
    """Whatever kind of checkpoint lies there: by the file's ending, or by what config.json in the folder says. Raises UserError."""
    if path.suffix in (".pt", ".pth"):
        return _vjepa2_official(path)
    if not path.is_dir():
        return _onnx(path)
    kind = _model_type(path / "config.json")
    return _lewm(path) if kind is None else _vjepa2(path) if kind == "vjepa2" else _vit(path)


class _HuggingFace(msgspec.Struct):
    model_type: str | None = None


def _model_type(config: Path) -> str | None:
    """What Hugging Face's models say of themselves; None for others, and for a file that whoever opens it will name."""
    try:
        return msgspec.json.decode(config.read_bytes(), type=_HuggingFace).model_type
    except (OSError, msgspec.DecodeError):
        return None


def _lewm(path: Path) -> Source:
    with needs_extra("export"):
        import torch

        from export.sources.lewm import open_lewm

    torch.set_num_threads(1)
    return open_lewm(path)


def _vjepa2(path: Path) -> Source:
    with needs_extra("export"):
        import torch

        from export.sources.vjepa2 import open_vjepa2

    torch.set_num_threads(1)
    return open_vjepa2(path)


def _vjepa2_official(path: Path) -> Source:
    with needs_extra("export"):
        import torch

        from export.sources.vjepa2_official import open_official

    torch.set_num_threads(1)
    return open_official(path)


def _vit(path: Path) -> Source:
    with needs_extra("export"):
        import torch

        from export.sources.vit import open_vit

    torch.set_num_threads(1)
    return open_vit(path)


def _onnx(path: Path) -> Source:
    with needs_extra("export"):
        from export.sources.onnx_pair import open_onnx_pair

    return open_onnx_pair(path)


def _export(args: argparse.Namespace, open_source: Callable[[Path], Source]) -> int:
    # Imported here so that --help and other commands do not wait for onnx.
    from calibration.scale_cache import ScaleCache, cache_folder

    with needs_extra("export"):
        from export.footage import read_for
        from export.frames import check_source
        from export.package import refuse_foreign
        from export.pipeline import export_bundle, sentence_of
        from export.quantize.pipeline import Calibration
        from export.report.page import render
        from export.stages import Stages, open_once

    refuse_foreign(args.out)
    check_source(args.frames, args.seconds)
    intrinsics = Intrinsics.load(args.intrinsics) if args.intrinsics else None
    if args.dynamic and args.target in TARGETS:
        raise UserError(f"--dynamic is for CPUs only and --target {args.target} has a GPU: leave one of them out")
    progress = ProgressLine(sys.stderr.isatty())
    started = time.perf_counter()
    stages = Stages.beside(args.out)
    if args.restart:
        stages.forget()
    elif stages.begun:
        progress.say("going on from the unfinished export; --restart begins anew")
    try:
        progress.say("reading the checkpoint and writing the FP32 graphs")
        source = open_once(stages, args.path, open_source)
        progress.say(reading(args.frames, args.seconds))
        footage = read_for(source, args.frames, progress.count, args.seconds, intrinsics)
        read_s = time.perf_counter() - started
        outcome = export_bundle(
            source,
            footage,
            args.out,
            keep_float=tuple(args.keep_float),
            how=Calibration(args.method, args.smoothing, cache=ScaleCache(cache_folder())),
            dynamic=args.dynamic,
            with_fp32=args.fp32,
            with_samples=args.samples,
            labels=args.labels,
            intrinsics=intrinsics,
            target=args.target,
            stages=stages,
            say=progress.say,
            progress=progress.count,
        )
    except KeyboardInterrupt:
        progress.clear()
        print("interrupted: the same command goes on from what is done", file=sys.stderr)
        raise
    progress.clear()
    page = args.out.with_name(f"{args.out.name}.html")
    write_page(page, render(outcome.evidence, outcome.bundle))
    if args.json:
        summary = {
            "accepted": outcome.bundle is not None,
            "bundle": str(outcome.bundle.folder) if outcome.bundle else None,
            "page": str(page),
            "failures": [failure.sentence for failure in outcome.failures],
            "blame": outcome.blame,
            "report": outcome.report,
            "seconds": {"reading": round(read_s, 1), **outcome.seconds},
        }
        print(msgspec.json.format(msgspec.json.encode(summary), indent=1).decode())
    elif outcome.bundle is not None:
        print(f"wrote {outcome.bundle.folder} and {page} in {time.perf_counter() - started:.0f} s")
        print(msgspec.json.format(msgspec.json.encode(outcome.report), indent=1).decode())
    if outcome.bundle is None:
        print(f"{sentence_of(outcome)}\nall that was measured: {page}", file=sys.stderr)
        return 1
    return 0
