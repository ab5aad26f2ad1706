"""``bridge flash-help``: how the firmware gets onto a board, out of docs/flashing.md."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import edge
from edge.errors import UserError

PAGE = Path(edge.__file__).parents[1] / "docs" / "flashing.md"
"""Of a source tree; an installed wheel has a copy beside this file."""
BOARDS = ("rp2040", "esp32", "stm32", "avr")

_EXAMPLES = """examples:
  latentloop bridge flash-help             the whole page
  latentloop bridge flash-help rp2040      what concerns one kind of board

exit codes: 0 printed, 2 no such board, or no page in this installation
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bridge flash-help``."""
    parser = subparsers.add_parser(
        "flash-help",
        help="how to build the firmware and flash it",
        description="Print how to build and flash the firmware. Unverified on hardware.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("board", nargs="?", choices=BOARDS, help="only what concerns this kind (default: the whole page)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    try:
        page = (PAGE if PAGE.exists() else Path(__file__).with_name("flashing.md")).read_text(encoding="utf-8")
    except OSError:
        raise UserError("docs/flashing.md is not part of this installation: read it in the sources of latentloop") from None
    print(page.strip() if args.board is None else sections(page, args.board))
    print("\nUnverified on hardware.")
    return 0


def sections(page: str, board: str) -> str:
    """Those that name the board or no board at all, each from its ``##`` to the next."""
    parts = re.split(r"^(?=## )", page, flags=re.MULTILINE)[1:]
    named = [{each for each in BOARDS if each in part.lower()} for part in parts]
    return "\n\n".join(part.strip() for part, boards in zip(parts, named, strict=True) if board in boards or not boards)
