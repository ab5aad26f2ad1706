"""The folder where plans live, with what is known of each: a cache of this machine that no bundle carries.

One pair of files per key, ``PART-RECIPE-DIGEST.plan`` and ``.json``, each written whole, the plan first. A record whose
plan is missing or damaged is as good as none.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from edge.engines.engine import EngineError
from edge.engines.tensorrt.library import Machine
from edge.engines.tensorrt.record import Key, Record
from edge.state_folder import state_folder
from edge.whole_file import write_whole

log = logging.getLogger(__name__)

KEPT_GENERATIONS = 2
"""Of one part and recipe of a bundle: the newest accepted plan and the one before, to which one can go back."""


class PlanCache:
    """folder: made when first written to; by default the engines folder of this user's state."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = state_folder() / "engines" if folder is None else folder

    def records(self) -> list[Record]:
        """All that can be read, newest first; those that cannot are logged and passed over."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=Record))
            except (OSError, msgspec.DecodeError) as error:
                log.warning("%s is no record of an engine (%s): it is built again when needed", path, error)
        return sorted(found, key=lambda record: -record.built)

    def find(self, key: Key) -> Record | None:
        """The record with exactly this key."""
        return next((record for record in self.records() if record.key == key), None)

    def begin(self, record: Record) -> None:
        """Note that a build starts, so that one that takes the process down is not tried at every start. What was accepted
        before stays. Raises EngineError."""
        before = self.find(record.key)
        if before is not None and before.verdict is None:
            record = msgspec.structs.replace(record, attempts=before.attempts + 1)
        if before is None or not before.accepted:
            self._write(self._path(record, ".json"), msgspec.json.encode(record))

    def forget(self, record: Record) -> None:
        """A build that was broken off in good order did not fail. What was accepted stays."""
        found = self.find(record.key)
        if found is not None and found.verdict is None:
            self._path(found, ".json").unlink(missing_ok=True)

    def finish(self, record: Record, plan: bytes) -> bool:
        """Keep a plan that was accepted, or only the record of one that was not. False if it was not and an accepted one
        of the same key stays in its place: the last good engine is kept. Raises EngineError."""
        before = self.find(record.key)
        if not record.accepted and before is not None and before.accepted:
            return False
        if record.accepted:
            record = msgspec.structs.replace(record, plan_sha256=hashlib.sha256(plan).hexdigest())
            self._write(self._path(record, ".plan"), plan)
        self._write(self._path(record, ".json"), msgspec.json.encode(record))
        self._prune(record)
        return True

    def plan(self, record: Record) -> bytes:
        """Raises EngineError if it is not there or not what was written."""
        path = self._path(record, ".plan")
        try:
            plan = path.read_bytes()
        except OSError as error:
            raise EngineError(f"{path} cannot be read ({error.strerror}): run 'latentloop engines build' again") from None
        if hashlib.sha256(plan).hexdigest() != record.plan_sha256:
            raise EngineError(f"{path} is damaged, its sha256 is not the recorded one: run 'latentloop engines build' again")
        return plan

    def timing_cache(self, machine: Machine) -> bytes:
        """What earlier builds on such a machine learned; empty at first."""
        with contextlib.suppress(OSError):
            return self._timing_path(machine).read_bytes()
        return b""

    def keep_timing_cache(self, machine: Machine, learned: bytes) -> None:
        """Raises EngineError."""
        self._write(self._timing_path(machine), learned)

    @contextmanager
    def building(self) -> Iterator[None]:
        """One build at a time: two would disturb each other's timing. Raises EngineError if another one is at it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / ".building").open("w")
        except OSError as error:
            raise self._unwritable(self.folder, error) from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise EngineError(f"engines are being built in {self.folder} already: wait until that has ended") from None
            yield

    def _prune(self, newest: Record) -> None:
        if not newest.accepted:
            return
        alike = [
            r for r in self.records() if r.accepted and (r.bundle, r.part, r.recipe) == (newest.bundle, newest.part, newest.recipe)
        ]
        for record in alike[KEPT_GENERATIONS:]:
            for kind in (".json", ".plan"):  # the record first: without it the plan is as good as gone
                self._path(record, kind).unlink(missing_ok=True)

    def _path(self, record: Record, kind: str) -> Path:
        return self.folder / f"{record.part}-{record.recipe}-{record.key.digest()}{kind}"

    def _timing_path(self, machine: Machine) -> Path:
        return self.folder / f"timing-{machine.tensorrt}-sm{machine.compute_capability.replace('.', '')}.cache"

    def _write(self, path: Path, data: bytes) -> None:
        try:
            write_whole(path, data)
        except OSError as error:
            raise self._unwritable(path, error) from None

    @staticmethod
    def _unwritable(path: Path, error: OSError) -> EngineError:
        return EngineError(f"{path} cannot be written ({error.strerror}): free some space, or set XDG_STATE_HOME elsewhere")
