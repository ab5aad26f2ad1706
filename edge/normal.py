"""What is normal in front of one camera, as a folder: concepts, alarm calibration, and the evidence behind them.

Written by ``latentloop calibrate alarms``. ``normal.json`` is written last and holds the hashes of the two other files,
so that a half-written folder is never believed.
"""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from edge.errors import UserError
from edge.memory.concepts import Concepts, ConceptSnapshot
from edge.state_folder import state_folder
from edge.surprise import AlarmCalibration, AlarmRule
from edge.whole_file import write_whole

FORMAT_VERSION = 2
OFF_S = 1.0
UNFAMILIAR_FROM_S = 300.0
"""From so much footage on, what is normal is known well enough for unfamiliarity alone to be an alarm: half a minute shows one
or two of the people who pass, and the next one wears other clothes."""
INDEX, ALARMS, CONCEPTS = "normal.json", "alarms.json", "concepts.npz"
_AGAIN = "run 'latentloop calibrate alarms' again"


class NormalError(UserError):
    """What is normal cannot be learned, read or used; one sentence."""


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the calibration rests on. seconds, frames: of normal footage judged by concepts from other footage. effective:
    how many independent frames that amounts to. alarm_p: the p-value under which a frame counts against normality.
    onsets: false alarms on the judged footage at this alarm_p. per_hour_below: with 95 % confidence there are fewer false
    alarms per hour on footage like this (rule of three)."""

    seconds: float
    frames: int
    effective: float
    alarm_p: float
    onsets: int
    per_hour_below: float


class _Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    format_version: int
    bundle_sha256: str
    made_from: str
    tokens: int
    dim: int
    evidence: Evidence
    files: dict[str, str]
    lens: str = ""


@dataclass(frozen=True, slots=True)
class Normal:
    """made_from: the source, for people. lens: the one that was taken out of the pictures (edge.intrinsics.taken_out)."""

    bundle_sha256: str
    made_from: str
    concepts: Concepts
    calibration: AlarmCalibration
    evidence: Evidence
    lens: str = ""

    @property
    def rule(self) -> AlarmRule:
        """The rule at the calibrated threshold."""
        predicts = self.calibration.error is not None
        return alarm_rule(self.evidence.alarm_p, self.calibration.tokens, self.evidence.seconds, predicts)

    def save(self, folder: Path) -> None:
        """Write all or nothing that would be believed. Raises NormalError."""
        snapshot = self.concepts.snapshot()
        table = io.BytesIO()
        np.savez(
            table,
            latents=snapshot.latents,
            counts=snapshot.counts,
            last_seen=snapshot.last_seen,
            radius=np.float64(snapshot.radius),
        )
        contents = {ALARMS: msgspec.json.encode(self.calibration), CONCEPTS: table.getvalue()}
        index = _Index(
            FORMAT_VERSION,
            self.bundle_sha256,
            self.made_from,
            self.calibration.tokens,
            self.concepts.dim,
            self.evidence,
            {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
            self.lens,
        )
        try:
            for name, data in (*contents.items(), (INDEX, msgspec.json.format(msgspec.json.encode(index), indent=1))):
                write_whole(folder / name, data)
        except OSError as error:
            raise NormalError(
                f"what is normal cannot be written to {folder} ({error.strerror}): choose a writable place with --out"
            ) from None

    @classmethod
    def load(cls, folder: Path, *, bundle_sha256: str, tokens: int, dim: int, lens: str = "") -> Normal:
        """Read a saved folder. tokens, dim: T and D of the bundle. lens: the one that is taken out of the pictures. Raises
        NormalError if it is missing, damaged or made for another bundle or lens."""
        index = _read_index(folder)
        if index.bundle_sha256 != bundle_sha256 or (index.tokens, index.dim) != (tokens, dim):
            raise NormalError(
                f"the calibration {folder} was made for bundle {index.bundle_sha256[:12]} and this is "
                f"{bundle_sha256[:12]}: {_AGAIN}"
            )
        if index.lens != lens:
            were, are = (f"straightened by lens {each}" if each else "not straightened" for each in (index.lens, lens))
            raise NormalError(
                f"the calibration {folder} was made from pictures {were} and these are {are}: give the intrinsics as then, or "
                f"{_AGAIN}"
            )
        contents = {}
        for name in (ALARMS, CONCEPTS):
            try:
                contents[name] = (folder / name).read_bytes()
            except OSError as error:
                raise NormalError(f"{folder / name} cannot be read ({error.strerror}): {_AGAIN}") from None
            if hashlib.sha256(contents[name]).hexdigest() != index.files.get(name):
                raise NormalError(f"{folder / name} is damaged or half-written: {_AGAIN}")
        try:
            calibration = msgspec.json.decode(contents[ALARMS], type=AlarmCalibration)
            with np.load(io.BytesIO(contents[CONCEPTS]), allow_pickle=False) as table:
                snapshot = ConceptSnapshot(
                    table["latents"], table["counts"], table["last_seen"], float(table["radius"])
                )
        except (msgspec.DecodeError, ValueError, KeyError) as error:
            raise NormalError(f"the calibration {folder} does not fit this version ({error}): {_AGAIN}") from None
        concepts = Concepts.restored(snapshot, capacity=max(2, len(snapshot.latents)))
        return cls(bundle_sha256, index.made_from, concepts, calibration, index.evidence, index.lens)


def alarm_rule(alarm_p: float, tokens: int, learned_s: float, predicts: bool = True) -> AlarmRule:
    """The rule of a learned camera. Short footage supports only high p-values as thresholds; a dead-band in p above them
    would hardly leave room for an alarm to end, so its end rests on the off-delay alone. Scores of patches have lasted
    already when they are high, so that one frame is enough. Without a predictor unfamiliarity is all there is to alarm by, and
    short footage means false alarms."""
    if tokens == 1:
        return AlarmRule(alarm_p=alarm_p, clear_factor=1.0, off_s=OFF_S)
    enough = learned_s >= UNFAMILIAR_FROM_S or not predicts
    return AlarmRule(alarm_p=alarm_p, clear_factor=1.0, off_s=OFF_S, on_s=0.0, min_frames=1, unfamiliar=enough)


def default_folder(source: str, lens: str = "") -> Path:
    """Where what is normal in front of a source lies unless told otherwise: in the user's state folder, for each lens that
    is taken out of its own."""
    source = f"{source} straightened {lens}" if lens else source
    name = "-".join(re.findall(r"[A-Za-z0-9]+", source)[-3:]).lower()[:40]
    return state_folder() / "normal" / f"{name}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"


def _read_index(folder: Path) -> _Index:
    path = folder / INDEX
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise NormalError(f"{folder} holds no calibration ({INDEX}: {error.strerror}): {_AGAIN}") from None
    try:
        return msgspec.json.decode(raw, type=_Index)
    except msgspec.DecodeError as error:
        raise NormalError(f"{path} is damaged or of another version ({error}): {_AGAIN}") from None
