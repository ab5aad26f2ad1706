"""What every test may use: the data beside the repository, and a rule for tests whose needs are not met."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[1]


def unmet(need: str) -> NoReturn:
    """Skip the running test for want of something; with LATENTLOOP_REQUIRE_DATA set, as on CI, it fails instead."""
    if os.environ.get("LATENTLOOP_REQUIRE_DATA"):
        pytest.fail(need, pytrace=False)
    pytest.skip(need)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With LATENTLOOP_NO_SKIPS set a run of which anything was skipped has failed: its packages were installed for it."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("LATENTLOOP_NO_SKIPS") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder ``shared/data`` beside the repository; its README.md says what each set is and may be used for."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        unmet(f"the test data is not there: put it in {folder}")
    return folder
