"""``export report``: the acceptance of a bundle as one HTML file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from edge.bundle import load
from edge.errors import UserError
from edge.whole_file import write_whole
from export.extra import needs_extra

_EXAMPLES = """examples:
  latentloop export report bundles/pusht
  latentloop bench engines --bundle bundles/pusht --json > bench.json
  latentloop export report bundles/pusht --bench bench.json --out pusht.html

The file needs nothing else: no network, no script. What stands in it was measured when the bundle was exported; to measure
anew on your footage: latentloop export verify. exit codes: 0 written, 2 bad input
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``export report``."""
    parser = subparsers.add_parser(
        "report",
        help="what INT8 cost, as a page to look at",
        description="Write what was measured when a bundle was accepted as one HTML file with plots.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="bundle folder, or the name of one that ships")
    parser.add_argument("--out", type=Path, metavar="FILE.html", help="(default: NAME.html in this folder)")
    parser.add_argument("--bench", type=Path, metavar="FILE.json", help="speed, as 'latentloop bench engines --json' printed it")
    parser.add_argument("--json", action="store_true", help="print what the page is made of instead of writing it")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the page. Raises UserError."""
    with needs_extra("export"):
        from export.evidence import evidence_of
        from export.report.page import render
    bundle = load(args.bundle)
    evidence = evidence_of(bundle)
    if args.json:
        print(evidence.to_json().decode(), end="")
        return 0
    bench = None if args.bench is None else read_bench(args.bench, bundle.sha256)
    out = args.out or Path(f"{bundle.manifest.name}.html")
    write_page(out, render(evidence, bundle, bench))
    print(f"wrote {out}")
    return 0


def write_page(path: Path, page: str) -> None:
    """Raises UserError."""
    try:
        write_whole(path, page.encode())
    except OSError as error:
        raise UserError(f"the report {path} cannot be written ({error.strerror}): check the path and free space") from None


def read_bench(path: Path, bundle_sha256: str) -> dict[str, Any]:
    """What bench engines measured. Raises UserError if it is of another bundle."""
    try:
        bench = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): give what 'latentloop bench engines --json' printed") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): give what 'latentloop bench engines --json' printed") from None
    found = bench.get("bundle_sha256") if isinstance(bench, dict) else None
    if found != bundle_sha256:
        raise UserError(
            f"{path} was measured with another bundle ({str(found)[:12]}, not {bundle_sha256[:12]}): run "
            "'latentloop bench engines' with this one"
        )
    assert isinstance(bench, dict)
    return bench
