"""A bundle that exists, measured anew on other footage."""

from __future__ import annotations

from pathlib import Path

from edge.bundle import Bundle
from edge.cameras.source import parse_source
from edge.intrinsics import Intrinsics
from export.acceptance import Say, accept, blamed
from export.evidence import About, Evidence
from export.feeds import Progress, unwatched
from export.footage import (
    VERIFICATION_PLANS,
    VERIFICATION_SEED,
    babbling,
    drawn_actions,
    labelled_for,
    plan_sets,
    read_for,
    verified_on,
)
from export.frames import short_name
from export.from_bundle import source_of, take_apart


def verify_bundle(
    bundle: Bundle,
    frames: str,
    seconds: float | None = None,
    *,
    against: Bundle | None = None,
    labels: Path | None = None,
    intrinsics: Intrinsics | None = None,
    say: Say = lambda line: None,
    progress: Progress = unwatched,
) -> Evidence:
    """Measure a bundle anew, as an export would. frames, seconds, intrinsics: see read_footage. against: a
    bundle whose FP32 graphs to hold it against. Blocks for minutes. Raises UserError."""
    source = source_of(bundle)
    footage = read_for(source, frames, progress, seconds, intrinsics)
    parts = take_apart(bundle, against)
    labelled = labelled_for(source, labels, footage.calibration, progress, intrinsics)
    say("measuring")
    accepted = accept(
        parts.exact,
        parts.quantized,
        footage.verification,
        drawn_actions(source, footage.verification, VERIFICATION_SEED),
        seed=VERIFICATION_SEED,
        plans=babbling(source),
        plan_count=plan_sets({part: q.fp32 for part, q in parts.quantized.items()}, VERIFICATION_PLANS),
        commanded=not source.actions,
        about=About(source.name, source.made_from, source.made_with, parts.against),
        verified_on=verified_on(footage, short_name(parse_source(frames))),
        labelled=labelled,
        say=say,
        progress=progress,
    )
    if not accepted.failures:
        return accepted.evidence
    say("finding the layers to blame")
    return blamed(accepted, parts.quantized, progress)


