"""The page in a real browser: what people see, what they can do, and what other pages cannot."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, WebSocketRoute, expect, sync_playwright

from edge.clock import MonotonicClock
from edge.dashboard.app import STATIC
from edge.messages import EngineBuild, RobotState, Tick
from tests.conftest import unmet
from tests.edge.dashboard.conftest import Live, Start
from tests.edge.dashboard.synthetic_ticks import RecordingOperator

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--headless=new",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-quic",
    "--no-first-run",
    "--host-resolver-rules=MAP evil.test 127.0.0.1",
]
LAPTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        unmet("Chromium is not installed: apt install chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """open_page(url, **context) opens a page in a fresh profile; complaints in its console fail the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def begin(url: str, prepare: Callable[[Page], None] = lambda page: None, **options: Any) -> Page:
        context = browser.new_context(**({"viewport": LAPTOP} | options))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        prepare(page)
        page.goto(url)
        return page

    yield begin
    for context in contexts:
        context.close()
    # A browser reports every answer of 400 and above and every lost socket; those are the tests' own doing.
    assert [
        text for text in complaints if "Failed to load resource" not in text and "WebSocket connection" not in text
    ] == []


def signed_in(live: Live) -> str:
    return live.dashboard.login_url


def painted(page: Page, canvas: str) -> int:
    """How many pixels of a canvas are not transparent."""
    script = """canvas => { const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
                let n = 0; for (let i = 3; i < data.length; i += 4) n += data[i] > 0; return n; }"""
    return int(page.locator(canvas).evaluate(script))


def test_the_page_shows_the_loop_live(start: Start, open_page: Open) -> None:
    operator = RecordingOperator()
    operator.arm()
    live = start(operator)
    page = open_page(live.url)
    expect(page.locator("#state-word")).to_have_text("Acting")
    # The synthetic loop's past ends during an alarm, which the head says beside what the robot does.
    expect(page.locator("#reason")).to_have_text("Alarm: something unfamiliar is in view · driving to charging corner")
    expect(page.locator("#link")).to_have_text("Live")
    expect(page.locator("#rate")).to_have_text("10.0 Hz")
    expect(page.locator("#title")).to_have_text("Rover under test")
    expect(page.locator("#v-threshold")).to_have_text("2.52")
    expect(page.locator("#timing-rows tr")).to_have_count(8)
    expect(page.locator("#timing-rows tr").last).to_contain_text("whole tick")
    expect(page.locator("#motor-rows th").first).to_have_text("left wheel")
    expect(page.locator("#firmware")).to_have_text("latentloop-c99 1.0")
    expect(page.locator("#plan-axes rect.step")).to_have_count(24)
    expect(page.locator("#plan-axes rect.sent")).to_have_count(2)
    expect(page.locator("#m-concepts")).to_have_text("412")
    expect(page.locator("#events .event strong").last).to_have_text("State")
    expect(page.locator("#events .thumb img").first).to_be_visible()
    page.wait_for_function("() => document.querySelector('#events .thumb img').naturalWidth === 144")
    page.wait_for_function("() => document.querySelector('#goal-picture').naturalWidth === 640")
    # The picture is the camera's, with its 91x81 red object, and it changes.
    page.wait_for_function("() => document.getElementById('no-picture').hidden")
    red = """() => { const c = document.getElementById('frame').getContext('2d');
              const {data} = c.getImageData(0, 0, 640, 480);
              let n = 0; for (let i = 0; i < data.length; i += 4) n += data[i] > data[i + 2] + 80; return n; }"""
    assert 6500 < page.evaluate(red) < 8200
    first = page.locator("#frame-facts").inner_text()
    page.wait_for_function("before => document.getElementById('frame-facts').textContent !== before", arg=first)


class Engines:
    """Stands in for a build in the background."""

    state = EngineBuild("")


def test_a_build_of_engines_is_shown_while_there_is_something_to_tell(start: Start, open_page: Open) -> None:
    engines = Engines()
    page = open_page(start(engines=engines).url)
    expect(page.locator("#link")).to_have_text("Live")
    expect(page.locator("#engine-build")).to_be_hidden()
    refused = "encoder as int8: refused, the cosine is 0.5"
    engines.state = EngineBuild("building TensorRT engine encoder as fp16, Building engine", 0.43, (refused,))
    expect(page.locator("#build-text")).to_have_text("Building TensorRT engine encoder as fp16, Building engine 43 %")
    assert page.locator("#build-share").evaluate("bar => bar.value") == 0.43
    expect(page.locator("#build-outcomes li")).to_have_text(["Encoder as int8: refused, the cosine is 0.5"])
    engines.state = EngineBuild("TensorRT engines are built", None, (refused, "encoder as fp16: 2.1 times as fast"))
    expect(page.locator("#build-share")).to_be_hidden()
    expect(page.locator("#build-outcomes li")).to_have_count(2)
    engines.state = EngineBuild("")
    expect(page.locator("#engine-build")).to_be_hidden()


def test_a_camera_alone_shows_its_alarm_and_heat_map_and_no_motors(start: Start, open_page: Open) -> None:
    # The synthetic loop's past ends during an alarm: patches above the threshold, heated and outlined.
    page = open_page(start().url)
    page.wait_for_function("() => document.getElementById('stage').classList.contains('alarmed')")
    expect(page.locator("#verdict")).to_have_text("Alarm: something unfamiliar is in view")
    assert painted(page, "#heat") > 5000
    for size in (LAPTOP, PHONE):
        page.set_viewport_size(size)
        assert page.locator("#heat").bounding_box() == page.locator("#frame").bounding_box()
    white = """canvas => { const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
               let n = 0;
               for (let i = 0; i < data.length; i += 4) n += data[i + 2] > 240 && data[i + 3] > 200;
               return n; }"""
    assert page.locator("#heat").evaluate(white) > 100
    page.get_by_label("Surprise heat-map").uncheck()
    assert painted(page, "#heat") == 0
    # A camera alone has nothing to stop.
    expect(page.locator("#state-word")).to_have_text("Alarm")
    for hidden in ("#stop", "#controls", ".plan", ".motors"):
        expect(page.locator(hidden)).to_be_hidden()


def test_an_operator_signs_in_arms_disarms_stops_and_clears(start: Start, open_page: Open) -> None:
    operator = RecordingOperator()
    live = start(operator)
    page = open_page(live.url)
    expect(page.get_by_role("button", name="Disarm")).to_be_hidden()
    page.get_by_role("button", name="Sign in to operate").click()
    page.get_by_label("Operator token").fill("x" * 43)
    page.locator("#login").get_by_role("button", name="Sign in").click()
    expect(page.locator("#login-error")).to_have_text("That is not the operator token.")
    page.get_by_label("Operator token").fill(live.token)
    page.keyboard.press("Enter")
    expect(page.locator("#login")).to_be_hidden()
    page.get_by_role("button", name="Arm", exact=True).click()
    expect(page.locator("#state-word")).to_have_text("Acting")
    page.get_by_role("button", name="Disarm").click()
    expect(page.locator("#state-word")).to_have_text("Disarmed")
    page.get_by_role("button", name="EMERGENCY STOP").click()
    expect(page.locator("#state-word")).to_have_text("Stopped")
    expect(page.locator("#toast")).to_contain_text("Stop taken after")
    page.get_by_role("button", name="Clear stop").click()
    expect(page.locator("#state-word")).to_have_text("Disarmed")
    operator.refuse = "the camera is covered; uncover it, then arm"
    page.get_by_role("button", name="Arm", exact=True).click()
    expect(page.locator("#toast")).to_have_text("The camera is covered; uncover it, then arm.")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Disarm")).to_be_hidden()
    assert operator.calls == ["arm", "disarm", "stop: button on the dashboard", "clear"]


def test_the_sign_in_link_signs_in_and_leaves_no_token_behind(start: Start, open_page: Open) -> None:
    live = start(RecordingOperator())
    asked: list[str] = []
    page = open_page(signed_in(live), prepare=lambda p: p.on("request", lambda request: asked.append(request.url)))
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    assert page.evaluate("location.href") == live.url
    assert page.evaluate("document.cookie") == ""
    assert asked and not any(live.token in url for url in asked)


def test_off_loopback_the_link_leads_through_the_login_page(start: Start, open_page: Open) -> None:
    live = start(RecordingOperator(), host="0.0.0.0")
    page = open_page(f"http://127.0.0.1:{live.port}/")
    expect(page).to_have_url(f"http://127.0.0.1:{live.port}/login")
    page.get_by_label("Operator token").fill(live.token)
    page.keyboard.press("Enter")
    expect(page.locator("#link")).to_have_text("Live")
    linked = open_page(f"http://127.0.0.1:{live.port}/#token={live.token}")
    expect(linked.locator("#link")).to_have_text("Live")
    assert live.token not in linked.url


def test_anyone_at_this_machine_may_stop_by_key_and_only_by_pressing_twice(start: Start, open_page: Open) -> None:
    operator = RecordingOperator()
    page = open_page(start(operator).url)
    expect(page.locator("#stop")).to_be_visible()
    page.keyboard.press("Escape")
    page.wait_for_timeout(900)
    assert operator.calls == []
    page.get_by_role("button", name="Sign in to operate").click()
    page.get_by_label("Operator token").focus()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    # The first of the two may already have been the second of a pair; one of them always is, never both.
    expect(page.locator("#state-word")).to_have_text("Stopped")
    assert operator.calls == ["stop: Escape pressed twice on the dashboard"]


def test_a_reload_shows_the_past_at_once(start: Start, open_page: Open) -> None:
    page = open_page(start().url)
    enough = "() => Number(document.getElementById('chart-surprise').dataset.points) > 220"
    page.wait_for_function(enough)
    page.reload()
    # Collecting as many points live would take 22 s.
    page.wait_for_function(enough, timeout=5000)
    expect(page.locator("#events .event strong").first).to_have_text("Alarm")
    assert painted(page, "#chart-surprise canvas") > 1000


def test_a_lost_connection_is_shown_and_found_again(start: Start, open_page: Open) -> None:
    live = start(RecordingOperator())
    page = open_page(live.url)
    expect(page.locator("#link")).to_have_text("Live")
    live.close()
    expect(page.locator("#lost")).to_contain_text("Connection lost. Values are from")
    expect(page.locator("body")).to_have_class(re.compile(r"\bstale\b"))
    assert "grayscale" in page.locator("main").evaluate("node => getComputedStyle(node).filter")
    page.get_by_role("button", name="EMERGENCY STOP").click()
    expect(page.locator("#toast")).to_contain_text("STOP NOT DELIVERED")
    operator = RecordingOperator()
    start(operator, port=live.port)
    expect(page.locator("#link")).to_have_text("Live")
    expect(page.locator("#lost")).to_be_hidden()
    expect(page.locator("#state-word")).to_have_text("Stopped")
    assert operator.calls == ["stop: button on the dashboard"]


def test_a_link_that_falls_silent_is_noticed(start: Start, open_page: Open) -> None:
    live = start()
    silent = threading.Event()

    def between(page: Page) -> None:
        def carry(route: WebSocketRoute) -> None:
            server = route.connect_to_server()
            server.on_message(lambda message: None if silent.is_set() else route.send(message))

        page.route_web_socket("**/live", carry)

    page = open_page(live.url, prepare=between)
    expect(page.locator("#link")).to_have_text("Live")
    silent.set()
    expect(page.locator("#lost")).to_contain_text("Connection lost")
    silent.clear()
    expect(page.locator("#link")).to_have_text("Live")


def test_a_loop_that_stands_still_does_not_look_live(start: Start, open_page: Open) -> None:
    live = start()
    page = open_page(live.url)
    expect(page.locator("#link")).to_have_text("Live")
    live.stop_ticking()
    expect(page.locator("#link")).to_have_text("Loop stands still")
    expect(page.locator("#lost")).to_contain_text("The loop has not ticked for 2.")
    assert "stale" in str(page.locator("body").get_attribute("class"))


def test_what_is_no_longer_known_is_no_longer_shown(start: Start, open_page: Open) -> None:
    live = start(RecordingOperator())
    page = open_page(live.url)
    expect(page.locator("#motor-rows tr")).to_have_count(2)
    live.stop_ticking()
    remedy = "the motor link is broken and so is the camera: plug both cables in, then clear the stop on this page"
    now_ns = MonotonicClock().now_ns()
    live.dashboard.observe(Tick(index=9000, started_ns=now_ns, state=RobotState.FAULT, reason=remedy))
    expect(page.locator("#motor-state")).to_have_text("No telemetry")
    expect(page.locator("#motor-rows tr")).to_have_count(0)
    expect(page.locator("#no-picture")).to_be_visible()
    expect(page.locator("#v-surprise")).to_have_text("\N{EN DASH}")
    # What to do comes last in a reason and must not be cut off.
    fits = "node => node.scrollHeight <= node.clientHeight && node.scrollWidth <= node.clientWidth"
    for size in (LAPTOP, PHONE):
        page.set_viewport_size(size)
        assert page.locator("#reason").evaluate(fits)


@pytest.fixture
def foreign() -> Iterator[str]:
    """A page of somebody else on this machine: same host, other port."""

    class Blank(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><link rel=icon href=data:,><title>foreign</title>")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Blank)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


ATTACK = """async target => {
  const tried = [];
  for (const path of ['api/arm', 'api/stop', 'api/disarm', 'api/clear'])
    for (const mode of ['no-cors', 'cors'])
      for (const type of ['text/plain', 'application/json']) {
        try {
          const reply = await fetch(target + path, {method: 'POST', mode, credentials: 'include',
                                                     headers: {'Content-Type': type}, body: '{}'});
          tried.push(reply.type === 'opaque' ? 'opaque' : reply.status);
        } catch (error) { tried.push('blocked'); }
      }
  let read = 'blocked';
  try { read = await (await fetch(target + 'api/session', {credentials: 'include'})).text(); } catch (error) {}
  const image = await new Promise(done => {
    const img = new Image(); img.onload = () => done('shown'); img.onerror = () => done('blocked');
    img.src = target + 'api/picture.jpg';
  });
  const socket = await new Promise(done => {
    const ws = new WebSocket(target.replace('http', 'ws') + 'live');
    ws.onopen = () => done('open'); ws.onerror = () => done('blocked');
  });
  return {tried: [...new Set(tried)].sort(), read, image, socket};
}"""


def test_a_foreign_page_can_neither_arm_nor_stop_nor_look(
    start: Start, browser: Browser, open_page: Open, foreign: str
) -> None:
    operator = RecordingOperator()
    live = start(operator)
    page = open_page(signed_in(live))
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    # In the same profile: cookies ignore ports, so the operator's cookie is even sent along.
    attacker = page.context.new_page()
    attacker.goto(foreign)
    result = attacker.evaluate(ATTACK, live.url)
    assert result == {"tried": ["blocked", "opaque"], "read": "blocked", "image": "blocked", "socket": "blocked"}
    assert operator.calls == []
    framed = (
        "target => new Promise(done => { const f = document.createElement('iframe'); f.src = target; "
        "f.onload = () => done(f.contentDocument === null); document.body.append(f); })"
    )
    assert attacker.evaluate(framed, live.url) is True
    page.get_by_role("button", name="Arm", exact=True).click()
    expect(page.locator("#state-word")).to_have_text("Acting")
    assert operator.calls == ["arm"]


def test_a_name_rebound_to_this_machine_is_refused(start: Start, browser: Browser) -> None:
    operator = RecordingOperator()
    live = start(operator)
    page = browser.new_page()
    answer = page.goto(f"http://evil.test:{live.port}/")
    assert answer is not None and answer.status == 421
    # Same origin as far as the browser knows, so nothing but the Host check stands in the way.
    result = page.evaluate(ATTACK, f"http://evil.test:{live.port}/")
    assert result["tried"] == [421] and result["socket"] == "blocked" and result["image"] == "blocked"
    assert "title" not in result["read"] and operator.calls == []
    page.context.close()


def test_on_a_phone_the_stop_is_always_within_reach(start: Start, open_page: Open) -> None:
    operator = RecordingOperator()
    page = open_page(start(operator).url, viewport=PHONE, is_mobile=True, has_touch=True, color_scheme="dark")
    expect(page.locator("#link")).to_have_text("Live")
    page.get_by_role("button", name="Sign in to operate").tap()
    on_top = """() => { const box = document.getElementById('stop').getBoundingClientRect();
                const inside = box.top >= 0 && box.left >= 0 && box.bottom <= innerHeight && box.right <= innerWidth;
                const hit = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
                return inside && box.height >= 56 && hit !== null && hit.closest('#stop') !== null; }"""
    for depth in (0, 600, 100_000):
        page.evaluate("depth => scrollTo(0, depth)", depth)
        assert page.evaluate(on_top), f"scrolled by {depth}"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("button", name="EMERGENCY STOP").tap()
    expect(page.locator("#state-word")).to_have_text("Stopped")
    assert len(operator.calls) == 1


def test_everything_to_press_has_a_name_and_the_state_is_spoken(start: Start, open_page: Open) -> None:
    operator = RecordingOperator()
    live = start(operator)
    page = open_page(signed_in(live))
    expect(page.locator("#announce")).to_have_text(
        "Disarmed. Alarm: something unfamiliar is in view · motors hold still until an operator arms them"
    )
    for name in ("Arm", "Disarm", "Sign out"):
        expect(page.get_by_role("button", name=name, exact=True)).to_be_visible()
    nameless = """() => [
        ...document.querySelectorAll('button, input:not([hidden]), canvas, [role=img], section')].filter(node => !(
          node.textContent.trim() || node.labels?.length || node.getAttribute('aria-label') ||
          node.getAttribute('aria-labelledby') || node.closest('[aria-hidden=true], [role=img][aria-label]'))).length"""
    assert page.evaluate(nameless) == 0
    operator.arm()
    expect(page.locator("#announce")).to_have_text(
        "Acting. Alarm: something unfamiliar is in view · driving to charging corner"
    )


def test_nothing_is_loaded_from_elsewhere_and_nothing_is_inline() -> None:
    for path in [*STATIC.glob("*.html"), *STATIC.glob("*.js"), *STATIC.glob("*.css")]:
        text = path.read_text()
        assert "//" not in text.replace("http://www.w3.org/2000/svg", "").replace("${scheme}://", "") or path.suffix == ".js"
        assert " style=" not in text and " onclick=" not in text and "innerHTML" not in text and "<style" not in text
    assert (STATIC / "vendor" / "uPlot.LICENSE").read_text().startswith("The MIT License")
