"""The page about the lint says what the rules say."""

from __future__ import annotations

import re

from export.lint.rules import RULES
from export.lint.target import TARGETS
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "lint.md").read_text()


def test_the_table_of_rules_is_the_table_of_rules() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (rejected|wrong|costly) \| (.+) \|$", PAGE, re.MULTILINE)
    assert rows == [(rule.name, rule.effect, rule.what) for rule in RULES]


def test_the_table_of_targets_is_the_table_of_targets() -> None:
    rows = re.findall(r"^\| `(jetpack\d)` \| [^|]+ \| ([^|]+) \| (\d+) to (\d+) \|", PAGE, re.MULTILINE)
    assert rows == [(target.name, target.tensorrt, *map(str, target.opsets)) for target in TARGETS.values()]
