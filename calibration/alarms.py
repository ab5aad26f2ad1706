"""``calibrate alarms``: learn what is normal in front of a fixed camera, and what alarm threshold that supports."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import msgspec

from edge.bundle import load
from edge.cameras.camera import Camera
from edge.cameras.opening import open_camera
from edge.cameras.source import Source, parse_source
from edge.clock import MonotonicClock
from edge.errors import UserError
from edge.intrinsics import Intrinsics, taken_out
from edge.learn_normal import NormalLearner
from edge.normal import Normal, NormalError, default_folder
from edge.perception import Perception
from edge.watch import add_intrinsics, describe

LIVE_MINUTES = 10.0
WAIT_S = 0.1
PATIENCE_S = 60.0

_EXAMPLES = """examples:
  latentloop calibrate alarms /dev/video0 --minutes 10
  latentloop calibrate alarms yard.mp4 --share 0.5 --out yard.normal
  latentloop watch yard.mp4 --calibration yard.normal

Only normal footage, please: what is learned here will never be an alarm. Pictures while the camera has a fault are
left out.
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``calibrate alarms``."""
    parser = subparsers.add_parser(
        "alarms",
        help="learn what is normal and where an alarm begins",
        description="Learn from normal footage what is normal, and set the alarm threshold on footage not learned from.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="device, video file, folder of pictures or address")
    parser.add_argument("--bundle", default="camera", help="model: a name or a folder (default: %(default)s)")
    add_intrinsics(parser)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=_positive, help=f"of footage (default: {LIVE_MINUTES:g} live, all of a recording)")
    length.add_argument("--share", type=_share, help="of a recording, from its beginning")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to keep it (default: where 'watch' looks first)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Learn, save and report. Raises UserError."""
    cv2.setNumThreads(1)
    source = parse_source(args.source)
    bundle = load(args.bundle)
    if bundle.manifest.kind != "camera":
        raise UserError(f"bundle {bundle.manifest.name!r} is for a robot: alarms of a fixed camera need a camera bundle")
    limit_s = _limit_s(source, args.minutes, args.share)
    intrinsics = Intrinsics.load(args.intrinsics) if args.intrinsics else None
    lens = taken_out(intrinsics)
    out = args.out or default_folder(source.label, lens)
    clock = MonotonicClock()
    shape = bundle.manifest.latent
    learner = NormalLearner(shape.tokens, shape.dim, shape.grid, bundle.predicts)
    with contextlib.ExitStack() as stack:
        perception = Perception(bundle, clock, intrinsics=intrinsics)
        stack.callback(perception.close)
        camera = open_camera(args.source, clock=clock, speed="real" if source.live else "max")
        stack.callback(camera.close)
        camera.start()
        faulty = observe(camera, perception, learner, limit_s, _progress("seen"))
    normal = learner.learn(
        bundle_sha256=bundle.sha256, made_from=source.label, wall_s=time.time(), progress=_progress("learned")
    )
    replace(normal, lens=lens).save(out)
    _report(normal, out, faulty, as_json=args.json)
    return 0


def observe(
    camera: Camera, perception: Perception, learner: NormalLearner, limit_s: float, progress: Callable[[float], None]
) -> int:
    """Show the learner healthy pictures for ``limit_s`` seconds or to the end of the source; returns how many were left out
    because the camera had a fault. Raises NormalError if no picture comes for a minute."""
    faulty = 0
    heard_s = time.monotonic()
    while learner.seconds < limit_s:
        camera.wait(WAIT_S)
        frame = camera.latest(int(1e9))
        if frame is None:
            status = camera.status()
            if status.ended or status.failed:
                break
            if time.monotonic() - heard_s > PATIENCE_S:
                reason = status.detail or "no reason known"
                raise NormalError(f"no picture came for {PATIENCE_S:.0f} s ({reason}): check the camera")
            continue
        heard_s = time.monotonic()
        if frame.faults:
            faulty += 1
            perception.forget()
            continue
        belief = perception.see(frame)
        if belief is not None:
            learner.observe(belief, perception.shifted(frame.pixels))
            progress(learner.seconds / limit_s)
    return faulty


def _limit_s(source: Source, minutes: float | None, share: float | None) -> float:
    if minutes is not None:
        return 60.0 * minutes
    if share is None:
        return 60.0 * LIVE_MINUTES if source.live else math.inf
    if source.live:
        raise UserError(f"{source.label} is live and has no share: say how long with --minutes")
    capture = cv2.VideoCapture(source.target)
    frames, fps = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    if not (frames > 0 and fps > 0):
        raise UserError(f"{source.label} does not say how long it is: say how long with --minutes")
    return share * frames / fps


def _progress(verb: str) -> Callable[[float], None]:
    """A line on a terminal that is written over, nothing elsewhere."""
    last = -1

    def show(share: float) -> None:
        nonlocal last
        percent = int(100 * min(share, 1.0))
        if percent != last and sys.stderr.isatty():
            last = percent
            print(f"\r{verb} {percent} % ", end="\n" if percent == 100 else "", file=sys.stderr, flush=True)

    return show


def _report(normal: Normal, out: Path, faulty: int, *, as_json: bool) -> None:
    evidence = normal.evidence
    if as_json:
        report = {**msgspec.to_builtins(evidence), "concepts": len(normal.concepts), "left_out": faulty, "folder": str(out)}
        print(json.dumps(report))
        return
    print(describe(normal))
    print(f"{evidence.frames} steps of the model, worth {evidence.effective:.0f} independent ones: ", end="")
    if evidence.effective < 50:
        print("that is little, and new but harmless things may still alarm; more footage helps")
    else:
        print("a fair basis")
    if faulty:
        print(f"{faulty} pictures were left out because the camera had a fault")
    print(f"kept in {out}")


def _positive(text: str) -> float:
    return _number(text, 1e6, "a number above zero")


def _share(text: str) -> float:
    return _number(text, 1.0, "a share above 0 and up to 1")


def _number(text: str, highest: float, wanted: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value <= highest:
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return value
