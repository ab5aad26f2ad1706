"""``export verify``: measure a bundle that exists on footage of today, and say whether it still passes the gate."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import msgspec

from edge.bundle import load
from edge.intrinsics import Intrinsics
from export.commands import add_frames, reading
from export.extra import needs_extra
from export.progress_line import ProgressLine
from export.report.command import write_page

_EXAMPLES = """examples:
  latentloop export verify bundles/pusht --frames footage.mp4
  latentloop export verify bundles/yard --frames normal.mp4 --labels labelled/labels.toml --report yard.html
  latentloop export verify bundles/pusht --frames footage.mp4 --against bundles/pusht-fp32 --json

INT8 is held against the FP32 graphs of the bundle (export --fp32), or of the one given with --against, or else against the same
weights in float arithmetic. The second half of the footage counts, as in an export. exit codes: 0 within the gate, 1 below it,
2 bad input
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``export verify``."""
    parser = subparsers.add_parser(
        "verify",
        help="measure again what INT8 costs a bundle",
        description="Hold the INT8 of a bundle against FP32 on your footage: latents, predictions, plans, layer by layer.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="bundle folder, or the name of one that ships")
    add_frames(parser)
    parser.add_argument("--against", metavar="BUNDLE", help="a bundle of the same model with FP32 graphs")
    parser.add_argument("--labels", type=Path, metavar="FILE.toml", help="clips with anomalies marked, for AUROC (docs/export.md)")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write what was found as a page")
    parser.add_argument("--json", action="store_true", help="print one JSON object with all that was measured")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print; 1 below the gate. Raises UserError."""
    with needs_extra("export"):
        from export.external_weights import kept_in
        from export.frames import check_source
        from export.remedy import advice, bound_of, complaints, culprits, name_of
        from export.report.page import render
        from export.verify_bundle import verify_bundle
    check_source(args.frames, args.seconds)
    intrinsics = Intrinsics.load(args.intrinsics) if args.intrinsics else None
    bundle = load(args.bundle)
    against = load(args.against) if args.against else None
    line = ProgressLine(sys.stderr.isatty())
    line.say(reading(args.frames, args.seconds))
    with tempfile.TemporaryDirectory(prefix="latentloop-") as folder, kept_in(Path(folder)):
        evidence = verify_bundle(
            bundle,
            args.frames,
            args.seconds,
            against=against,
            labels=args.labels,
            intrinsics=intrinsics,
            say=line.say,
            progress=line.count,
        )
    line.clear()
    if args.report is not None:
        write_page(args.report, render(evidence, bundle))
        print(f"wrote {args.report}", file=sys.stderr)
    if args.json:
        summary = {
            "accepted": evidence.passed,
            "bundle": str(bundle.folder),
            "bundle_sha256": bundle.sha256,
            "failures": list(complaints(evidence)),
            "remedy": advice(evidence),
            "evidence": evidence,
        }
        print(msgspec.json.format(msgspec.json.encode(summary), indent=1).decode())
    else:
        print(f"{bundle.manifest.name} against {evidence.about.against}, on {evidence.figures['verified_on']}")
        for each in evidence.gate:
            value = "not a number" if each.measured is None else f"{each.measured:.5g}"
            print(f"  {'ok  ' if each.passed else 'FAIL'} {name_of(each):<36} {value:>9}  {bound_of(each)}")
    if evidence.passed:
        return 0
    for complaint in complaints(evidence):
        print(f"below the gate: {complaint}", file=sys.stderr)
    for part, named in culprits(evidence):
        print(f"layers of the {part} that cost most when quantized alone: {named}", file=sys.stderr)
    print(advice(evidence), file=sys.stderr)
    return 1
