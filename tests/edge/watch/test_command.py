"""The watch and calibrate commands as a person types them: what they print, what they keep, what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge.cli import main
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


def test_learning_first_is_the_same_in_one_go(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, notes = watch(video, capsys, "--learn", "12")
    assert "learning what is normal" in notes and "calibrated on 12 s" in notes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["watch", "nowhere.mp4"], "nowhere.mp4"),
        (["watch", "VIDEO", "--calibration", "nowhere"], "nowhere holds no calibration"),
        (["watch", "VIDEO", "--bundle", "nowhere"], "nowhere"),
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
