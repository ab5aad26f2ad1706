"""That one board, with one firmware and one set of limits, has stopped when it had to: kept in the state folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from edge.bridge.identity import Identity
from edge.errors import UserError
from edge.state_folder import state_folder
from edge.whole_file import write_whole


@dataclass(frozen=True, slots=True)
class Check:
    """found, wanted: for people."""

    name: str
    passed: bool
    found: str
    wanted: str


def path_of(who: Identity) -> Path:
    """One file for each board, firmware and limits."""
    safe = "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in who.firmware)
    return state_folder() / "bridge" / f"{who.uid}-{who.limits_crc:08x}-{safe}.json"


def store(who: Identity, checks: Sequence[Check]) -> Path:
    """Raises UserError where it cannot be written."""
    path = path_of(who)
    proof = {
        **_key(who),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "checks": [asdict(check) for check in checks],
    }
    try:
        write_whole(path, json.dumps(proof, indent=2).encode() + b"\n")
    except OSError as error:
        raise UserError(f"the proof cannot be written to {path} ({error.strerror}): make the folder writable") from None
    return path


def forget(who: Identity) -> None:
    """A board that has failed once is not proved any more. Raises UserError where the file cannot be removed."""
    try:
        path_of(who).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"the old proof {path_of(who)} cannot be removed ({error.strerror}): remove it by hand") from None


def proved(who: Identity) -> bool:
    """Is there a proof for exactly this board, firmware and limits?"""
    try:
        kept = json.loads(path_of(who).read_bytes())
        return all(kept[name] == value for name, value in _key(who).items()) and all(c["passed"] for c in kept["checks"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _key(who: Identity) -> dict[str, str]:
    return {"uid": who.uid, "firmware": who.firmware, "limits_crc": f"{who.limits_crc:08x}"}
