"""The command line: every command explains itself, and one that is broken does not take the others down."""

from __future__ import annotations

import argparse
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution

import pytest

from edge import cli
from edge.errors import UserError


def _fails(args: argparse.Namespace) -> int:
    raise UserError("robot.toml is wrong: mend it")


def _register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    subparsers.add_parser("good", help="fails politely").set_defaults(run=_fails)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        EntryPoint("good", f"{__name__}:_register", cli.GROUP),
        EntryPoint("broken", "a_package_nobody_has:register", cli.GROUP),
    ]
    monkeypatch.setattr(cli, "entry_points", lambda group: found)
    monkeypatch.setattr(cli, "version", lambda name: "0")


@pytest.mark.usefixtures("commands")
def test_a_user_error_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["good"]) == 2
    assert capsys.readouterr().err == "latentloop: robot.toml is wrong: mend it\n"


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize("more", [[], ["robot.toml", "--speed", "1"]])
def test_a_command_that_cannot_be_imported_says_what_is_missing(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["broken", *more]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "broken" in said and "a_package_nobody_has" in said and "latentloop doctor" in said


@pytest.mark.usefixtures("commands")
def test_no_command_prints_help_and_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "latentloop doctor" in capsys.readouterr().err


@pytest.mark.usefixtures("commands")
def test_an_unknown_command_exits_2() -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["fly"])
    assert ended.value.code == 2


@pytest.mark.parametrize("command", ["", *cli.ORDER])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        distribution("latentloop")
    except PackageNotFoundError:
        pytest.skip("latentloop is not installed here, so it has no entry points")
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"] if command else ["--help"])
    assert ended.value.code == 0
    assert "latentloop " + command in capsys.readouterr().out
