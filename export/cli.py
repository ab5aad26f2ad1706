"""The ``export`` command: from checkpoints to bundles that a device can trust."""

from __future__ import annotations

import argparse

from export import commands
from export import verify_command as verify
from export.lint import command as lint
from export.report import command as report

_EXAMPLES = """examples:
  latentloop export lewm checkpoints/lewm-pusht --frames footage.mp4 --out bundles/pusht
  latentloop export dinov2 checkpoints/dinov2-small --frames yard.mp4 --out bundles/yard
  latentloop export vjepa2 checkpoints/vjepa2-vitl-fpc64-256 --frames footage.mp4 --out bundles/vjepa2
  latentloop export onnx models/signature.toml --frames footage.mp4 --out bundles/mine
  latentloop export lint encoder.onnx --target jetpack6
  latentloop export verify bundles/pusht --frames footage.mp4
  latentloop export report bundles/pusht
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``export`` command."""
    parser = subparsers.add_parser(
        "export",
        help="make and check models for the device (on a workstation)",
        description="Make and check models for the device. Runs on a workstation, with the extra [export] installed.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inner = parser.add_subparsers(metavar="WHAT", required=True)
    commands.register_lewm(inner)
    commands.register_vjepa2(inner)
    commands.register_vjepa2_official(inner)
    commands.register_vit(inner)
    commands.register_onnx(inner)
    lint.register(inner)
    verify.register(inner)
    report.register(inner)
