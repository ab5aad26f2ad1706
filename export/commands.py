"""``latentloop export lewm`` and ``latentloop export onnx``: a checkpoint and footage in, an accepted bundle out."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge.errors import UserError
from export.extra import needs_extra

if TYPE_CHECKING:
    from export.sources.source import Source

METHODS = ("mse", "percentile", "max")
Subparsers = argparse._SubParsersAction  # argparse has no public name for it
RUNS = 32
"""Runs of footage to calibrate on, and as many to verify on."""

_LEWM_EXAMPLES = """examples:
  latentloop export lewm checkpoints/lewm-pusht --frames footage.mp4 --out bundles/pusht
  latentloop export lewm checkpoints/lewm-pusht --frames pictures/ --out bundles/pusht --keep-float blocks.11.down

The folder holds config.json and weights.pt or weights.safetensors, and may hold latentloop.toml (docs/export.md), which says
how long a step is and what the actions are. exit codes: 0 written, 1 below the gate and nothing written, 2 bad input
"""
_ONNX_EXAMPLES = """examples:
  latentloop export onnx models/signature.toml --frames footage.mp4 --out bundles/mine
  latentloop export onnx models/signature.toml --frames pictures/ --out bundles/mine --json

The signature names the ONNX files beside it and describes their inputs (docs/export.md). Works without torch.
exit codes: 0 written, 1 below the gate and nothing written, 2 bad input
"""


def register_lewm(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add ``lewm`` to the kinds of ``latentloop export``."""
    _add(subparsers, "lewm", "a LeWorldModel checkpoint to an INT8 bundle", "folder of the checkpoint", _LEWM_EXAMPLES, _lewm)


def register_onnx(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add ``onnx`` to the kinds of ``latentloop export``."""
    _add(subparsers, "onnx", "a pair of ONNX files to an INT8 bundle", "signature file (TOML)", _ONNX_EXAMPLES, _onnx)


def _add(
    subparsers: Subparsers[argparse.ArgumentParser],
    kind: str,
    purpose: str,
    path: str,
    examples: str,
    open_source: Callable[[Path], Source],
) -> None:
    parser = subparsers.add_parser(
        kind,
        help=purpose,
        description=f"Turn {purpose}, calibrated on your footage and verified on footage that calibration has not seen.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", type=Path, metavar="PATH", help=path)
    parser.add_argument("--frames", required=True, metavar="SOURCE", help="a video file or a folder of pictures from the camera")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="folder of the bundle; an old one is replaced")
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
        "--method", choices=METHODS, default="mse", help="where INT8 scales clip (default: %(default)s; docs/export.md says why)"
    )
    parser.add_argument(
        "--dynamic",
        action="store_true",
        help="no calibration: scales are found in every call; for CPUs only, the footage then serves to verify",
    )
    parser.add_argument("--fp32", action="store_true", help="add the graphs from before quantization to the bundle")
    parser.add_argument("--half", action="store_true", help="add the graphs with an FP16 body, for TensorRT (PART.half.onnx)")
    parser.add_argument("--json", action="store_true", help="print one JSON object with the report")
    parser.set_defaults(run=lambda args: _export(args, open_source))


def _lewm(path: Path) -> Source:
    with needs_extra("export"):
        import torch

        from export.sources.lewm import open_lewm

    torch.set_num_threads(1)
    return open_lewm(path)


def _onnx(path: Path) -> Source:
    with needs_extra("export"):
        from export.sources.onnx_pair import open_onnx_pair

    return open_onnx_pair(path)


def _export(args: argparse.Namespace, open_source: Callable[[Path], Source]) -> int:
    # Imported here so that --help and other commands do not wait for onnx.
    from calibration.scale_cache import ScaleCache, cache_folder

    with needs_extra("export"):
        from export.frames import read_footage
        from export.package import refuse_foreign
        from export.pipeline import export_bundle, run_length, sentence_of
        from export.quantize.pipeline import Calibration

    refuse_foreign(args.out)
    if args.dynamic and args.half:
        raise UserError("--half is for TensorRT, which takes no graph made with --dynamic: leave one of them out")
    progress = Progress(sys.stderr.isatty())
    started = time.perf_counter()
    progress.say("reading the checkpoint and writing the FP32 graphs")
    source = open_source(args.path)
    progress.say("reading the footage")
    footage = read_footage(
        args.frames, source.picture, source.time.step_s, run_length(source), RUNS, lambda frames: progress.count(frames, 0)
    )
    read_s = time.perf_counter() - started
    outcome = export_bundle(
        source,
        footage,
        args.out,
        keep_float=tuple(args.keep_float),
        how=Calibration(args.method, args.smoothing, cache=ScaleCache(cache_folder())),
        dynamic=args.dynamic,
        with_fp32=args.fp32,
        halves=args.half,
        say=progress.say,
        progress=progress.count,
    )
    progress.clear()
    if args.json:
        summary = {
            "accepted": outcome.bundle is not None,
            "bundle": str(outcome.bundle.folder) if outcome.bundle else None,
            "failures": [failure.sentence for failure in outcome.failures],
            "blame": outcome.blame,
            "report": outcome.report,
            "seconds": {"reading": round(read_s, 1), **outcome.seconds},
        }
        print(msgspec.json.format(msgspec.json.encode(summary), indent=1).decode())
    elif outcome.bundle is not None:
        print(f"wrote {outcome.bundle.folder} in {time.perf_counter() - started:.0f} s")
        print(msgspec.json.format(msgspec.json.encode(outcome.report), indent=1).decode())
    if outcome.bundle is None:
        print(sentence_of(outcome), file=sys.stderr)
        return 1
    return 0


class Progress:
    """One line on stderr per stage; on a terminal it counts."""

    def __init__(self, counting: bool) -> None:
        self._counting = counting
        self._stage = ""
        self._shown = 0.0

    def say(self, stage: str) -> None:
        self.clear()
        self._stage = stage
        print(stage, file=sys.stderr, flush=True)

    def count(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._counting and (now - self._shown > 0.1 or done == total):
            self._shown = now
            of = f" of {total}" if total else ""
            print(f"\r  {done}{of}\033[K", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._counting:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
