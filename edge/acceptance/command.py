"""``latentloop doctor --acceptance BUNDLE``: run it, write both files, say how it went."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from edge.acceptance.page import page
from edge.acceptance.running import accept
from edge.bundle import load
from edge.engines.tensorrt.commands import Progress
from edge.errors import UserError
from edge.whole_file import write_whole

JSON, HTML = "acceptance.json", "acceptance.html"


def run(bundle: str, out: Path, *, seconds: float, as_json: bool) -> int:
    """Write acceptance.json and acceptance.html into a folder; 0 if accepted, else 1. Raises UserError."""
    loaded = load(bundle)
    progress = Progress(sys.stderr.isatty())
    found = accept(loaded, seconds=seconds, say=progress.say, progress=progress.step)
    progress.clear()
    text = msgspec.json.format(msgspec.json.encode({"accepted": found.accepted, **msgspec.to_builtins(found)}), indent=1)
    try:
        write_whole(out / JSON, text)
        write_whole(out / HTML, page(found).encode())
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror}): give another folder with --out") from None
    if as_json:
        print(text.decode())
    else:
        for check in found.checks:
            print(f"{check.outcome:<8} {check.what:<46} {'' if check.outcome == 'not run' else check.found}".rstrip())
        if found.gpu_not_run:
            print(f"not accepted, the GPU part was not run: {found.gpu_not_run}")
        else:
            print("accepted" if found.accepted else "not accepted")
        print(f"wrote {out / JSON} and {out / HTML}")
    return 0 if found.accepted else 1
