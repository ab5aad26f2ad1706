"""A bundle is written whole or not at all, whatever goes wrong in between."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest

from edge.bundle import Action, GoalCost, Graph, Graphs, LatentShape, Manifest, Picture, Timing, load, signatures
from export import package
from export.package import PackageError, write_bundle


def manifest(version: str) -> Manifest:
    bare = Manifest(
        format=1,
        name="tiny",
        version=version,
        kind="robot",
        made_from="nothing",
        made_by="a test",
        licence="Apache-2.0",
        picture=Picture(12, 16),
        latent=LatentShape(4, 8, (2, 2)),
        time=Timing(0.1, 3),
        graphs=Graphs(Graph("", (), ()), Graph("", (), ())),
        files={},
        actions=(Action("left", "rad/s", -20.0, 20.0),),
        goal=GoalCost("latent_mse", 0.1, 5, 7, 2, 'how: "measured"'),
        int8={"encoder": {"cosine": 0.999}},
    )
    graphs = {part: Graph(f"{part}.onnx", *tensors) for part, tensors in signatures(bare).items()}
    return msgspec.structs.replace(bare, graphs=Graphs(**graphs))


def contents(fill: bytes) -> dict[str, bytes]:
    return {f"{part}.onnx": fill for part in ("encoder", "predictor", "rollout")} | {"calibration/a.json": fill}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_what_is_written_is_what_is_read(tmp_path):
    written = write_bundle(tmp_path / "tiny", manifest("1"), contents(b"1"))
    read = load(tmp_path / "tiny")
    assert read == written
    assert msgspec.structs.replace(read.manifest, files={}) == manifest("1")
    assert set(read.manifest.files) == set(contents(b"")) and os.listdir(tmp_path) == ["tiny"]


def test_the_manifest_is_the_same_bytes_for_the_same_bundle(tmp_path):
    first = write_bundle(tmp_path / "a", manifest("1"), contents(b"1"))
    turned = dict(reversed(contents(b"1").items()))
    assert write_bundle(tmp_path / "b", manifest("1"), turned).sha256 == first.sha256


def test_a_newer_bundle_takes_the_place_of_the_older_one_without_leftovers(tmp_path):
    old = {**contents(b"1"), "calibration/gone.json": b"{}"}
    write_bundle(tmp_path / "tiny", manifest("1"), old)
    write_bundle(tmp_path / "tiny", manifest("2"), contents(b"2"))
    assert load(tmp_path / "tiny").manifest.version == "2"
    assert not (tmp_path / "tiny/calibration/gone.json").exists() and os.listdir(tmp_path) == ["tiny"]


@pytest.mark.parametrize("in_one_step", [True, False])
def test_a_kill_in_between_finds_one_whole_bundle_in_place(tmp_path, monkeypatch, in_one_step):
    folder = tmp_path / "tiny"
    write_bundle(folder, manifest("1"), contents(b"1"))
    rename, seen = Path.rename, []
    if not in_one_step:
        monkeypatch.setattr(package, "_exchange", lambda one, other: False)

    def watched(self: Path, target: Path) -> Path:
        renamed = rename(self, target)
        seen.append(folder.exists())
        return renamed

    monkeypatch.setattr(Path, "rename", watched)
    write_bundle(folder, manifest("2"), contents(b"2"))
    # Where the system cannot exchange folders there is a moment without one; the old one is beside it then.
    assert seen == ([] if in_one_step else [False, True])
    assert load(folder).manifest.version == "2" and os.listdir(tmp_path) == ["tiny"]


def test_exchanging_with_nothing_changes_nothing(tmp_path):
    (tmp_path / "one").mkdir()
    assert not package._exchange(tmp_path / "one", tmp_path / "none")
    assert os.listdir(tmp_path) == ["one"]


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def refuse_last_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old bundle has already stepped aside when this fails."""
    rename, calls = Path.rename, []

    def flaky(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(package, "_exchange", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", flaky)


FAILURES = {
    "disk full while syncing": lambda m: m.setattr(package.os, "fsync", full_disk),
    "disk full while writing the last file": lambda m: m.setattr(
        package,
        "_write",
        lambda path, data: full_disk() if path.name == "bundle.toml" else path.parent.mkdir(exist_ok=True),
    ),
    "the last rename fails": refuse_last_rename,
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_export_leaves_the_old_bundle_untouched(tmp_path, monkeypatch, failure):
    folder = tmp_path / "tiny"
    write_bundle(folder, manifest("1"), contents(b"1"))
    before = tree(folder)
    with monkeypatch.context() as patch:
        FAILURES[failure](patch)
        with pytest.raises(PackageError, match=r"tiny cannot be written \(.*(space|error)") as caught:
            write_bundle(folder, manifest("2"), contents(b"2"))
    assert "\n" not in str(caught.value)
    assert tree(folder) == before and load(folder).manifest.version == "1"
    assert os.listdir(tmp_path) == ["tiny"]


def test_a_file_damaged_on_the_way_to_the_disk_is_noticed_before_the_old_bundle_goes(tmp_path, monkeypatch):
    folder = tmp_path / "tiny"
    write_bundle(folder, manifest("1"), contents(b"1"))
    write = package._write
    monkeypatch.setattr(package, "_write", lambda path, data: write(path, data.replace(b"\x02", b"\x03")))
    with pytest.raises(Exception, match="changed or damaged"):
        write_bundle(folder, manifest("2"), contents(b"\x02"))
    assert load(folder).manifest.version == "1" and os.listdir(tmp_path) == ["tiny"]


def test_a_manifest_that_contradicts_itself_and_a_folder_of_something_else_are_refused(tmp_path):
    wrong = msgspec.structs.replace(manifest("1"), latent=LatentShape(4, 9, (2, 2)))
    with pytest.raises(PackageError, match=r"was not written: graphs\.encoder\.outputs"):
        write_bundle(tmp_path / "tiny", wrong, contents(b"1"))
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("mine")
    with pytest.raises(PackageError, match="not a bundle: give an empty or a new folder"):
        write_bundle(tmp_path / "thesis", manifest("1"), contents(b"1"))
    assert (tmp_path / "thesis/chapter.txt").read_text() == "mine"
    (tmp_path / "file").write_text("x")
    with pytest.raises(PackageError, match="cannot be written"):
        write_bundle(tmp_path / "file" / "tiny", manifest("1"), contents(b"1"))
    with pytest.raises(PackageError, match="not a bundle: give"):
        write_bundle(tmp_path / "file", manifest("1"), contents(b"1"))
