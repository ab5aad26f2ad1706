"""The report page: right ticks, nothing foreign gets in, and a real browser shows it without a complaint or a request."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import sync_playwright

from edge.bundle import load
from edge.cli import main
from export.evidence import evidence_of
from export.report.charts import ticks
from export.report.page import render
from export.report.sections import percent
from tests.conftest import unmet

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"


def bench(bundle):
    row = {"fp32_ms": 2.0, "int8_ms": 0.5, "int8_speedup": 4.0, "peers": {"other": {"int8_ms": 0.7}}}
    return {"bundle_sha256": bundle.sha256, "machine": "a machine", "threads": 1, "statistic": "least", "encoder": row}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_whole(exported, tmp_path, scheme):
    if not Path(CHROMIUM).exists():
        unmet("Chromium is not installed: apt install chromium")
    page_file = tmp_path / "page.html"
    page_file.write_text(render(evidence_of(exported.bundle), exported.bundle, bench(exported.bundle)))
    complaints, requests = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--headless=new", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(page_file.as_uri())
        evidence = evidence_of(exported.bundle)
        assert page.locator(".verdict").inner_text().lower() == ("accepted" if evidence.passed else "below the gate")
        assert page.locator("svg.chart").count() == 3
        assert page.locator(".point").count() == len(evidence.costs.plans) + 1  # and the legend
        assert page.locator("table").first.locator("tr").count() == len(evidence.gate) + 1
        assert page.get_by_text("4 x").is_visible() and page.get_by_text(exported.bundle.sha256).is_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.set_viewport_size({"width": 400, "height": 800})
        hidden = "[...document.querySelectorAll('.mark, .hash, .value')].filter(x => x.getBoundingClientRect().right > innerWidth)"
        assert page.evaluate(f"{hidden}.length") == 0  # no column that has to be scrolled to
        assert page.evaluate("Math.max(...[...document.querySelectorAll('td')].map(x => x.offsetHeight))") < 200
        browser.close()
    assert complaints == [] and [url for url in requests if not url.startswith(("file:", "data:"))] == []


def test_names_from_a_checkpoint_stay_text(exported):
    evidence = evidence_of(exported.bundle)
    hostile = msgspec.structs.replace(evidence.about, name="<script>alert(1)</script>")
    page = render(msgspec.structs.replace(evidence, about=hostile))
    assert "<script" not in page and "&lt;script&gt;" in page


def test_the_command_writes_the_page_and_an_older_bundle_shows_what_it_has(tmp_path, capsys):
    out = tmp_path / "camera.html"
    assert main(["export", "report", "camera", "--out", str(out)]) == 0
    assert "encoder cosine" in out.read_text() and "0.99933" in out.read_text() and "svg class" not in out.read_text()
    assert main(["export", "report", "camera", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.partition("\n")[2])["about"]["name"] == "camera"


@pytest.mark.parametrize(("text", "said"), [(None, "cannot be read"), ("{", "is not JSON"), ("{}", "another bundle")])
def test_a_bench_of_something_else_is_refused(tmp_path, capsys, text, said):
    file = tmp_path / "bench.json"
    if text is not None:
        file.write_text(text)
    assert main(["export", "report", "camera", "--bench", str(file), "--out", str(tmp_path / "page.html")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "page.html").exists()


def test_damaged_evidence_is_named(exported, tmp_path):
    folder = shutil.copytree(exported.bundle.folder, tmp_path / "copy")
    bundle = load(folder)
    (folder / "verification.json").write_text('{"about": 3}')
    with pytest.raises(Exception, match=r"verification\.json cannot be understood"):
        evidence_of(bundle)


def test_layers_that_stayed_in_float_are_named_with_the_reason(exported):
    evidence = evidence_of(exported.bundle)
    assert "Kept in float" not in render(evidence)
    kept = {"encoder": {"blocks.1.<up>": "alone it costs 9 %"}}
    page = render(msgspec.structs.replace(evidence, figures=evidence.figures | {"kept_in_float": kept}))
    assert "Kept in float" in page and "blocks.<wbr>1.<wbr>&lt;up&gt;</span> of the encoder: alone it costs 9 %" in page


def test_ticks_are_round_and_cover_the_range():
    for low, high in ((0.0, 0.37), (-3.2, 8.1), (0.0, 1e-6), (21.0, 26.3), (0.0, 48000.0)):
        marks = ticks(low, high)
        assert marks[0] <= low and marks[-1] >= high * (1 - 1e-9) and 3 <= len(marks) <= 9
    assert ticks(2.0, 2.0) == [2.0]


def test_percentages_have_three_figures():
    assert [percent(x) for x in (0.0, 1.0, 0.0234, 0.000123, 0.96, 2.5)] == ["0 %", "100 %", "2.34 %", "0.0123 %", "96 %", "250 %"]
    assert [percent(x, in_column=True) for x in (0.052, 0.0511, 0.00801, 2.5)] == ["5.20 %", "5.11 %", "0.801 %", "250 %"]
