"""``bench engines`` on a real bundle: what it reports is there, of the right kind, and about what ran."""

from __future__ import annotations

import argparse
import json

import pytest

from edge.bench import engines
from edge.bench.engines import bench_engines, take_turns
from edge.bundle import load

BUNDLE = "camera"


def test_every_part_is_reported_with_the_gemms_that_ran():
    report = bench_engines(load(BUNDLE), seconds=0.01)
    assert report["threads"] == 1 and "rollout" not in report
    for part in ("encoder", "predictor"):
        row = report[part]
        assert row["calls"] >= 10
        assert 0 < row["fp32_ms"] <= row["fp32_median_ms"] and 0 < row["int8_ms"] <= row["int8_median_ms"]
        assert row["int8_speedup"] == pytest.approx(row["fp32_ms"] / row["int8_ms"], abs=0.01)
        assert 0 < row["integer_gemms"] == row["quantized_linears"]
    json.dumps(report)


def test_peers_are_timed_beside_it_and_may_know_one_precision_only(monkeypatch):
    called = []
    monkeypatch.setattr(engines, "_peers", lambda: {"mine": lambda bundle, part: {"fp32": lambda: called.append(part)}})
    report = bench_engines(load(BUNDLE), seconds=0.01)
    assert set(report["encoder"]["peers"]["mine"]) == {"fp32_ms", "fp32_median_ms"}
    assert called.count("predictor") == report["predictor"]["calls"] + 2  # two to warm up


def test_runtimes_take_turns():
    order: list[str] = []
    calls = {(name, "int8"): (lambda name=name: order.append(name)) for name in "ab"}
    times = take_turns(calls, 0.0)
    assert order[4:] == ["a", "b"] * 10 and {len(t) for t in times.values()} == {10}


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_the_command_prints_a_table_or_json(capsys, arguments):
    parser = argparse.ArgumentParser()
    engines.register(parser.add_subparsers())
    given = parser.parse_args(["engines", "--bundle", BUNDLE, "--seconds", "0.01", *arguments])
    assert given.run(given) == 0
    text = capsys.readouterr().out
    if arguments:
        assert json.loads(text)["encoder"]["runtime"].startswith("onnxruntime")
    else:
        assert "integer GEMMs" in text and len(text.splitlines()) >= 4
