"""``calibrate activations``: measure the activation ranges of a model on footage, to look at and for the export to reuse."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from calibration.activations import ScaleTable
from calibration.scale_cache import ScaleCache, cache_folder
from edge.bundle import MANIFEST
from edge.errors import UserError
from edge.intrinsics import Intrinsics
from edge.whole_file import write_whole
from export.commands import METHODS, add_frames, open_any, reading
from export.extra import needs_extra
from export.progress_line import ProgressLine

if TYPE_CHECKING:
    from export.quantize.pipeline import Quantized
    from export.sources.source import Source

_EXAMPLES = """examples:
  latentloop calibrate activations models/signature.toml --frames footage.mp4
  latentloop calibrate activations checkpoints/lewm-pusht --frames pictures/ --method max --out tables/
  latentloop calibrate activations build/rover-fp32 --frames footage.mp4 --json

PATH is what 'latentloop export' takes, of any kind: a signature file of ONNX files, a checkpoint's folder (LeWM, V-JEPA 2, a
vision encoder), a .pt file of V-JEPA 2; or a bundle with its FP32 graphs.
What is measured is kept in a cache, under $XDG_CACHE_HOME or ~/.cache: asked again for the same model, footage and method,
this command and 'latentloop export' read it there. exit codes: 0 all well, 2 bad input
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``calibrate activations``."""
    parser = subparsers.add_parser(
        "activations",
        help="measure the activation ranges of a model for INT8 (on a workstation)",
        description="Measure on footage where the INT8 scales of a model should clip, tensor by tensor.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="signature file (TOML), checkpoint or bundle folder")
    add_frames(parser)
    parser.add_argument("--method", choices=METHODS, default="mse", help="where scales clip (default: %(default)s)")
    parser.add_argument(
        "--no-smooth", dest="smoothing", action="store_false", help="do not fold outlier channels of norms into weights first"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write the tables there too, PART.scales.json each")
    parser.add_argument("--json", action="store_true", help="print the tables as one JSON object")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    # Imported here so that --help and other commands do not wait for onnx.
    with needs_extra("export"):
        from export.external_weights import kept_in
        from export.footage import read_for
        from export.frames import check_source
        from export.pipeline import calibrate
        from export.quantize.pipeline import Calibration

    check_source(args.frames, args.seconds)
    intrinsics = Intrinsics.load(args.intrinsics) if args.intrinsics else None
    progress = ProgressLine(sys.stderr.isatty())
    progress.say("reading the model")
    with tempfile.TemporaryDirectory(prefix="latentloop-") as folder, kept_in(Path(folder)):
        source = _open(args.path)
        progress.say(reading(args.frames, args.seconds))
        footage = read_for(source, args.frames, progress.count, args.seconds, intrinsics)
        how = Calibration(args.method, args.smoothing, cache=ScaleCache(cache_folder()))
        quantized = calibrate(source, footage, how, say=progress.say, progress=progress.count)
    progress.clear()
    if args.out is not None:
        try:
            for part, q in quantized.items():
                write_whole(args.out / f"{part}.scales.json", q.table.to_json())
        except OSError as error:
            raise UserError(f"{args.out} cannot be written ({error.strerror}): check --out and free space") from None
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(_described(quantized)), indent=1).decode())
    else:
        for part, q in quantized.items():
            print("\n".join(_lines(part, q)))
    return 0


def _open(path: Path) -> Source:
    with needs_extra("export"):
        if (path / MANIFEST).exists():
            from export.sources.bundle import open_bundle

            return open_bundle(path)
    return open_any(path)


def _described(quantized: Mapping[Any, Quantized]) -> dict[str, dict[str, Any]]:
    return {
        part: {
            "file": str(q.file),
            "reused": q.reused,
            "linears": q.linears,
            "table": q.table,
            "scales": {name: tensor.scale for name, tensor in q.table.tensors.items()},
        }
        for part, q in quantized.items()
    }


def _lines(part: str, quantized: Quantized) -> list[str]:
    table: ScaleTable = quantized.table
    width = max([len(name) for name in table.tensors] + [6])
    lines = [
        f"{part}: {quantized.linears} Linears on {len(table.tensors)} activations, method {table.method}, {table.made_from}",
        f"  {'tensor':<{width}} {'low':>11} {'high':>11} {'clip':>11} {'scale':>11} {'values':>12}",
    ]
    for name, tensor in table.tensors.items():
        numbers = f"{tensor.low:>11.4g} {tensor.high:>11.4g} {tensor.clip:>11.4g} {tensor.scale:>11.4g} {tensor.values:>12}"
        lines.append(f"  {name:<{width}} {numbers}")
    where = "reused from" if quantized.reused else "kept in"
    return [*lines, f"  {where} {quantized.file}"]
