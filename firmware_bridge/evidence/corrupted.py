"""Figure: of so many corrupted frames the C decoder accepts none."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from firmware_bridge.controller import BridgeError
from firmware_bridge.evidence.build import BOARDS, build
from firmware_bridge.host_firmware import FIRMWARE

DAMAGE = ("flips", "truncations", "holes", "merges")


@dataclass(frozen=True, slots=True)
class Figure:
    """sent, accepted: corrupted frames per kind of damage. whole, refused: undamaged ones sent in between."""

    sent: dict[str, int]
    accepted: dict[str, int]
    whole: int
    refused: int

    @property
    def good(self) -> bool:
        return not any(self.accepted.values()) and self.refused == 0


def measure(frames: int, seed: int = 1, firmware: Path = FIRMWARE) -> Figure:
    """Damage so many frames and decode them. Raises BridgeError without a C compiler."""
    with tempfile.TemporaryDirectory() as folder:
        program = build("corrupted", Path(folder), BOARDS["arm"], firmware=firmware)
        done = subprocess.run([str(program), str(frames), str(seed)], capture_output=True, text=True)
    if done.returncode != 0:
        raise BridgeError(f"the decoder was ended by signal {-done.returncode}: undefined behaviour in frame.c")
    told: dict[str, list[int]] = json.loads(done.stdout)
    sent, accepted = ({kind: told[kind][k] for kind in DAMAGE} for k in (0, 1))
    return Figure(sent, accepted, *told["whole"])


def main() -> int:
    """1 to 6 flipped bits, cut tails, holes and lost delimiters, on payloads of zeros and of anything."""
    parser = argparse.ArgumentParser(prog="python -m firmware_bridge.evidence.corrupted", description=main.__doc__)
    parser.add_argument("--frames", type=int, default=10_000_000, help="how many (default: ten million, half a minute)")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    try:
        figure = measure(given.frames, given.seed)
    except BridgeError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for kind in DAMAGE:
        sys.stdout.write(f"{kind:12} {figure.sent[kind]:>10,} sent {figure.accepted[kind]:>4} accepted\n")
    sys.stdout.write(f"{'undamaged':12} {figure.whole:>10,} sent {figure.refused:>4} refused\n")
    return 0 if figure.good else 1


if __name__ == "__main__":
    sys.exit(main())
