"""The ``engines`` command: build, list and check the TensorRT engines of a bundle on this machine."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import msgspec

from edge.bundle import Bundle, load
from edge.engines.engine import EngineError
from edge.engines.peers import usual_engine
from edge.engines.tensorrt.builder import NORMAL, Effort
from edge.engines.tensorrt.cache import PlanCache
from edge.engines.tensorrt.choice import choose, graph_hashes
from edge.engines.tensorrt.library import Library, NoTensorRt, find_library
from edge.engines.tensorrt.making import check_engine, make_engines, parts_of, said
from edge.engines.tensorrt.record import Record, mismatches
from edge.engines.tensorrt.telling import Step
from edge.engines.trial import Verdict

_BUILD_EXAMPLES = """examples:
  latentloop engines build bundles/mine
  latentloop engines build rover --level 5           longer, and sometimes faster engines
  latentloop engines build rover --workspace-mb 256  with little memory
  latentloop engines build rover --dla 0             on the first DLA of a Jetson Orin besides
  latentloop engines build rover --force --json      everything anew
"""
_LIST_EXAMPLES = """examples:
  latentloop engines list                            of all bundles
  latentloop engines list rover --json
"""
_CHECK_EXAMPLES = """examples:
  latentloop engines check rover
  latentloop engines check bundles/mine --json
"""
_EXAMPLES = """examples:
  latentloop engines build rover
  latentloop engines list rover
  latentloop engines check rover

A plan is used only if it passed a comparison with onnxruntime, and only if it was faster (docs/tensorrt.md).
exit codes: 0 every part has an engine that passed, 1 one has none, 2 bad input or no TensorRT here
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the ``engines`` command."""
    parser = subparsers.add_parser(
        "engines",
        help="build, list and check TensorRT engines on the device",
        description="TensorRT engines of a bundle: built on the machine that runs them, compared with onnxruntime, cached.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inner = parser.add_subparsers(metavar="WHAT", required=True)

    def add(name: str, purpose: str, examples: str) -> argparse.ArgumentParser:
        shape = argparse.RawDescriptionHelpFormatter
        return inner.add_parser(name, help=purpose, description=f"{purpose.capitalize()}.", epilog=examples, formatter_class=shape)

    build = add("build", "build what is not there yet, and try it against onnxruntime", _BUILD_EXAMPLES)
    build.add_argument("--level", type=int, choices=range(6), default=NORMAL.level, help="of optimisation (default: %(default)s)")
    build.add_argument(
        "--workspace-mb", type=_megabytes, default=NORMAL.workspace_mb, help="memory that one layer may use (default: %(default)s)"
    )
    build.add_argument("--dla", type=int, choices=(0, 1), help="try this deep-learning accelerator besides (TensorRT 10)")
    build.add_argument("--force", action="store_true", help="build again what is there, was refused or broke off")
    build.set_defaults(run=_build)
    check = add("check", "compare the engines that are there with onnxruntime again", _CHECK_EXAMPLES)
    check.set_defaults(run=_check)
    for command in (build, check):
        command.add_argument("bundle", metavar="BUNDLE", help="folder, or the name of one that ships with latentloop")
    listing = add("list", "what is there, and why something is not used", _LIST_EXAMPLES)
    listing.add_argument("bundle", metavar="BUNDLE", nargs="?", help="only those of this bundle, with the reasons")
    listing.set_defaults(run=_list)
    for command in (build, check, listing):
        command.add_argument("--json", action="store_true", help="print JSON")


def _build(args: argparse.Namespace) -> int:
    bundle, library = load(args.bundle), find_library()
    progress = Progress(sys.stderr.isatty())
    records = make_engines(
        bundle,
        library,
        PlanCache(),
        Effort(args.level, args.workspace_mb),
        dla=args.dla,
        force=args.force,
        say=progress.say,
        progress=progress.step,
    )
    progress.clear()
    return _report(args, bundle, records, library)


def _check(args: argparse.Namespace) -> int:
    bundle, library, cache = load(args.bundle), find_library(), PlanCache()
    progress = Progress(sys.stderr.isatty())
    encoder = usual_engine(bundle, "encoder")
    found = []
    for part in parts_of(bundle):
        choice = choose(cache.records(), bundle, part, library.machine)
        found += [record for record, _ in choice.refused]
        for record in choice.usable:
            progress.say(f"{part} as {record.recipe}: comparing")
            try:
                verdict = check_engine(bundle, record, library, cache.plan(record), encoder)
            except EngineError as error:
                verdict = Verdict(False, str(error))
            found.append(msgspec.structs.replace(record, verdict=verdict))
    return _report(args, bundle, found, library)


def _list(args: argparse.Namespace) -> int:
    records = PlanCache().records()
    bundle = None if args.bundle is None else load(args.bundle)
    try:
        return _report(args, bundle, records, find_library())
    except NoTensorRt as error:
        return _report(args, bundle, records, None, str(error))


def _report(
    args: argparse.Namespace, bundle: Bundle | None, records: list[Record], library: Library | None, nothing_runs: str = ""
) -> int:
    """Print the records, of one bundle if it is given, with the reasons why they are not used; the exit code. nothing_runs:
    why there is no library."""
    if bundle is not None:
        records = [record for record in records if record.bundle == bundle.manifest.name]
    reasons: dict[str, str] = {}
    without: list[str] = []
    if bundle is not None and library is not None:
        for part in parts_of(bundle):
            choice = choose(records, bundle, part, library.machine)
            reasons |= {record.key.digest(): reason for record, reason in choice.refused}
            graphs = graph_hashes(bundle, part)
            if not any(
                r.part == part and r.accepted and not any(mismatches(r.key, library.machine, graphs.get(r.graph, "")))
                for r in records
            ):
                without.append(part)
    elif library is not None:  # whatever graphs their bundles have now, the machine must be the same
        misfits = ((r.key, "; ".join(mismatches(r.key, library.machine, r.key.onnx_sha256))) for r in records)
        reasons = {key.digest(): misfit for key, misfit in misfits if misfit}
    else:
        reasons = {r.key.digest(): f"it needs TensorRT {r.key.machine.tensorrt} on {r.key.machine.gpu!r}" for r in records}
    rows: list[dict[str, Any]] = [
        {**msgspec.to_builtins(record), "precision": record.precision, "not_used": reasons.get(record.key.digest())}
        for record in records
    ]
    if args.json:
        machine = msgspec.to_builtins(library.machine) if library else None
        print(json.dumps({"machine": machine, "no_tensorrt": nothing_runs or None, "engines": rows}, indent=1))
    else:
        for record in records:
            print(f"{record.bundle:<12} {record.part:<10} {record.recipe:<14} {said(record)}")
            if record.accepted and record.key.digest() in reasons:
                print(f"{'':<38} > not used: {reasons[record.key.digest()]}")
        if not records:
            of = "" if bundle is None else f" of {bundle.manifest.name}"
            print(f"no engine{of} is in {PlanCache().folder}")
        if nothing_runs:
            print(f"none can be built or used here: {nothing_runs}")
        elif not records and bundle is None:
            print("to build some: latentloop engines build BUNDLE")
        if without:
            print(
                f"without an engine that passed here: {', '.join(without)}; onnxruntime runs them, and "
                f"'latentloop engines build {args.bundle}' builds them"
            )
    return 1 if without else 0


class Progress:
    """Lines on stderr; on a terminal one of them counts, elsewhere a line every few seconds tells how far it is."""

    def __init__(self, terminal: bool, every_s: float = 5.0) -> None:
        self._terminal, self._every_s = terminal, 0.1 if terminal else every_s
        self._said = time.monotonic()

    def say(self, sentence: str) -> None:
        self.clear()
        print(sentence, file=sys.stderr, flush=True)

    def step(self, phase: str, share: float) -> None:
        """See :data:`edge.engines.tensorrt.builder.Progress`."""
        now = time.monotonic()
        if now - self._said < self._every_s:
            return
        self._said = now
        if self._terminal:
            print(f"\r{Step(phase, share)}\033[K", end="", file=sys.stderr, flush=True)
        else:
            print(Step(phase, share), file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _megabytes(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1 << 20:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 1048576")
    return int(text)
