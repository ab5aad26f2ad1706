"""``export lint``: say what TensorRT will refuse or get wrong, without TensorRT."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from export.extra import needs_extra
from export.lint.target import TARGETS

_EXAMPLES = """examples:
  latentloop export lint encoder.onnx --target jetpack6
  latentloop export lint rollout.onnx --target jetpack7 --json

exit codes: 0 nothing found, 1 something found, 2 the file cannot be read
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``export lint``."""
    parser = subparsers.add_parser(
        "lint",
        help="what TensorRT will refuse or get wrong in a graph",
        description="Check an ONNX graph against what the TensorRT of a JetPack reads, refuses, or silently computes differently.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, metavar="MODEL.onnx")
    parser.add_argument("--target", choices=tuple(TARGETS), required=True, help="the JetPack it is for")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the findings; 1 if there are any. Raises UserError."""
    with needs_extra("export"):
        from export.lint.model_file import read
        from export.lint.rules import lint
    target = TARGETS[args.target]
    findings = lint(read(args.model), target)
    if args.json:
        about = {"model": str(args.model), "target": target.name, "tensorrt": target.tensorrt}
        print(json.dumps({**about, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        for finding in findings:
            print(finding)
        effects = Counter(finding.effect for finding in findings)
        said = ", ".join(f"{count} {effect}" for effect, count in effects.items()) or "nothing found"
        print(f"{args.model} for {target.name} (TensorRT {target.tensorrt}): {said}")
    return 1 if findings else 0
