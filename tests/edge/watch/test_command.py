"""The watch and calibrate commands as a person types them: what they print, what they keep, what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from edge.cli import main
from edge.normal import default_folder
from tests.edge.test_intrinsics import GOPRO
from tests.edge.watch.conftest import write_video


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "room.avi", 200)


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def watch(video: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[list[dict[str, object]], str]:
    assert main(["watch", str(video), "--speed", "max", "--no-dashboard", "--json", *more]) == 0
    printed = capsys.readouterr()
    return [json.loads(line) for line in printed.out.splitlines()], printed.err


def test_without_calibration_it_says_the_command_to_run(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, notes = watch(video, capsys)
    assert f"latentloop calibrate alarms {video}" in notes
    assert [line for line in lines if "event" in line] == []
    assert lines[-1]["summary"] is True
    assert lines[-1]["frames"] == 200
    assert lines[-1]["dropped"] == 0


def test_calibrate_then_watch_finds_it_by_itself(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "alarms", str(video), "--share", "0.75", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["onsets"] == 0 and report["frames"] == pytest.approx(141, abs=2) and report["left_out"] == 0
    lines, notes = watch(video, capsys)
    assert "calibrated on 15 s" in notes
    assert [line for line in lines if "event" in line] == []


@pytest.fixture
def lens(tmp_path: Path) -> Path:
    GOPRO.save(tmp_path / "lens.toml")
    return tmp_path / "lens.toml"


def test_what_was_learned_without_the_lens_is_for_pictures_without_it(
    video: Path, lens: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    straight, kept = ["--intrinsics", str(lens)], str(default_folder(str(video), GOPRO.lens.fingerprint))
    assert main(["calibrate", "alarms", str(video), *straight]) == 0
    capsys.readouterr()
    assert "calibrated on" in watch(video, capsys, *straight)[1]
    bent = watch(video, capsys)[1]
    assert "not calibrated" in bent and "--intrinsics" not in bent
    assert "calibrated on" in watch(video, capsys, *straight, "--calibration", kept)[1]
    assert main(["watch", str(video), "--calibration", kept, "--no-dashboard"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and f"straightened by lens {GOPRO.lens.fingerprint} and these are not straightened" in line


def test_the_command_to_run_names_the_lens(video: Path, lens: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"calibrate alarms {video} --intrinsics {lens}" in watch(video, capsys, "--intrinsics", str(lens))[1]


@pytest.mark.parametrize("command", [["watch", "--no-dashboard", "--speed", "max"], ["calibrate", "alarms"]])
def test_intrinsics_of_another_shape_are_told_in_one_line(
    video: Path, tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    msgspec.structs.replace(GOPRO, height=720, cy=360.0).save(tmp_path / "wide.toml")
    assert main([*command, str(video), "--intrinsics", str(tmp_path / "wide.toml")]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "pictures of 160x120 do not fit the camera's intrinsics, measured at 1280x720" in line


def test_learning_first_is_the_same_in_one_go(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, notes = watch(video, capsys, "--learn", "12")
    assert "learning what is normal" in notes and "calibrated on 12 s" in notes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["watch", "nowhere.mp4"], "nowhere.mp4"),
        (["watch", "VIDEO", "--calibration", "nowhere"], "nowhere holds no calibration"),
        (["watch", "VIDEO", "--bundle", "nowhere"], "nowhere"),
        (["watch", "VIDEO", "--intrinsics", "nowhere.toml"], "the intrinsics nowhere.toml cannot be read"),
        (["calibrate", "alarms", "VIDEO", "--minutes", "0.1"], "at least 10 s"),
        (["calibrate", "alarms", "VIDEO", "--share", "0.1"], "at least 10 s"),
        (["bench", "watch", "--data", "nowhere"], "--data"),
    ],
)
def test_bad_input_is_one_line(
    video: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([str(video) if part == "VIDEO" else part for part in arguments]) == 2
    printed = capsys.readouterr().err.strip().splitlines()
    assert len(printed) <= 2 and message in printed[-1]


@pytest.mark.parametrize("arguments", [["--learn", "-1"], ["--duration", "nan"], ["--speed", "fast"]])
def test_options_are_checked(video: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["watch", str(video), *arguments])
    assert ended.value.code == 2
