"""That one device, with one firmware and one set of limits, has stopped when it had to: kept in the state folder.

What the device could not be shown to do, a person may have taken upon themselves; that is kept with it.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from edge.errors import UserError
from edge.state_folder import state_folder
from edge.whole_file import write_whole
from firmware_bridge.controller import Identity
from firmware_bridge.device import LATENTLOOP

NEEDED = frozenset({"unarmed", "limits", "lease", "command expiry", "emergency stop"})
"""What a proof must speak of."""
ALONE = "computer dead"
"""And this, where a driver on the computer does what latentloop's firmware does on the board."""
FIELDS = ("kind", "uid", "firmware", "limits")
"""Of an identity: what must be the same for a proof to count."""

Result = Literal["proved", "failed", "not proved"]


@dataclass(frozen=True, slots=True)
class Check:
    """result: "not proved" where the device cannot do it, or where nothing could be measured. found, wanted: for people."""

    name: str
    result: Result
    found: str
    wanted: str


def path_of(who: Identity) -> Path:
    """One file for each device, firmware and limits."""
    key = json.dumps(_key(who)).encode()
    return _folder() / f"{who.kind}-{hashlib.sha256(key).hexdigest()[:16]}.json"


def store(who: Identity, checks: Sequence[Check], accepted: bool = False) -> Path:
    """accepted: a person takes upon themselves what is not proved. Raises UserError where it cannot be written."""
    path = path_of(who)
    proof: dict[str, Any] = {
        **_key(who),
        "date": _now(),
        "checks": [asdict(check) for check in checks],
    }
    if accepted:
        names = [check.name for check in checks if check.result == "not proved"]
        proof["accepted"] = {"by": getpass.getuser(), "date": _now(), "checks": names}
    try:
        write_whole(path, json.dumps(proof, indent=2).encode() + b"\n")
    except OSError as error:
        raise UserError(f"the proof cannot be written to {path} ({error.strerror}): make the folder writable") from None
    return path


def check_writable() -> None:
    """Before anything moves for a proof that could not be kept. Raises UserError."""
    folder = _folder()
    trial = folder / ".trial"
    try:
        write_whole(trial, b"")
        trial.unlink()
    except OSError as error:
        raise UserError(f"no proof can be written to {folder} ({error.strerror}): make the folder writable") from None


def forget(who: Identity) -> None:
    """A device that has failed once is not proved any more. Raises UserError where the file cannot be removed."""
    try:
        path_of(who).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"the old proof {path_of(who)} cannot be removed ({error.strerror}): remove it by hand") from None


def proved(who: Identity) -> bool:
    """Is there a proof for exactly this device, firmware and limits, in which nothing has failed and nothing is left open?"""
    kept = _read(path_of(who))
    try:
        results = {check["name"]: check["result"] for check in kept["checks"]}
        taken = set(kept.get("accepted", {}).get("checks", ()))
        return (
            all(kept[name] == value for name, value in _key(who).items())
            and results.keys() >= (NEEDED if who.kind == LATENTLOOP else NEEDED | {ALONE})
            and all(result == "proved" or (result == "not proved" and name in taken) for name, result in results.items())
        )
    except (AttributeError, KeyError, TypeError):
        return False


def why_not(who: Identity) -> str:
    """Why motors behind this device may not be armed, one sentence with the command to run; empty if they may."""
    if who.simulated or proved(who):
        return ""
    if path_of(who).exists():
        why = f"the proof that this controller stops, {path_of(who)}, is incomplete or damaged"
    else:
        why = next(_changes(who), "this controller was never proved to stop")
    return f"{why}: run latentloop bridge selftest {shlex.quote(who.spec)}"


def _changes(who: Identity) -> Iterator[str]:
    """What is different since the same device was proved."""
    try:
        paths = sorted(_folder().glob(f"{who.kind}-*.json"))
    except OSError:
        return
    for kept in map(_read, paths):
        if (kept.get("kind"), kept.get("uid")) != (who.kind, who.uid):
            continue
        if kept.get("firmware") != who.firmware:
            yield f"this controller was proved to stop with firmware {kept.get('firmware')}, and now it has {who.firmware}"
        elif kept.get("limits") != who.limits:
            yield "the limits or settings of this controller have changed since it was proved to stop"


def _read(path: Path) -> dict[str, Any]:
    """Empty for a file that is not there, or is none of ours."""
    try:
        kept = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _key(who: Identity) -> dict[str, str]:
    return {name: getattr(who, name) for name in FIELDS}


def _folder() -> Path:
    return state_folder() / "bridge"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
