"""The real server on a real port, without a browser."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from edge.clock import NS_PER_S, FakeClock
from edge.dashboard import Dashboard, DashboardError, feed
from edge.messages import Frame, RobotState, Tick
from tests.edge.dashboard.conftest import PAST_TICKS, Start
from tests.edge.dashboard.synthetic_ticks import RecordingOperator

DEADLINE_S = 10.0


def ask(port: int, method: str, path: str, token: str = "", body: Any = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    reply = connection.getresponse()
    data = reply.read()
    connection.close()
    return reply.status, data


def watch(port: int) -> ClientConnection:
    return connect(
        f"ws://127.0.0.1:{port}/live", origin=f"http://127.0.0.1:{port}", compression="deflate", close_timeout=0.5
    )


def until_state(client: ClientConnection, wanted: Any = lambda state: True) -> tuple[dict[str, Any], list[Any]]:
    """The first state that is wanted, and everything that came before it."""
    before: list[Any] = []
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        message = client.recv(timeout=DEADLINE_S)
        if isinstance(message, str):
            decoded = json.loads(message)
            if decoded["type"] == "state" and wanted(decoded):
                return decoded, before
            before.append(decoded)
        else:
            before.append(message)
    raise AssertionError("the wanted state did not come")


def test_a_client_gets_the_history_first_then_states_and_pictures(start: Start) -> None:
    live = start(RecordingOperator())
    with watch(live.port) as client:
        assert client.protocol.extensions == []  # deflate was offered by the client and must be refused
        state, before = until_state(client, lambda s: s["index"] > PAST_TICKS + 2)
        history = [m for m in before if isinstance(m, dict) and m["type"] == "more"]
        points = [at_s for m in history for at_s in m["at_s"]]
        assert len(points) > 200 and points == sorted(set(points))
        assert [e["number"] for m in history for e in m["events"]][:2] == [1, 2]
        pictures = [m for m in before if isinstance(m, bytes)]
        picture = cv2.imdecode(np.frombuffer(pictures[-1], np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None and picture.shape == (480, 640, 3)
        assert state["goal"]["picture"] > 0
        assert ask(live.port, "GET", f"/api/goal/{state['goal']['picture']}.jpg")[1][:2] == b"\xff\xd8"
        assert ask(live.port, "GET", "/api/goal/9999.jpg")[0] == 404
        alarm = next(e for m in history for e in m["events"] if e["thumbnail"])
        assert ask(live.port, "GET", f"/api/events/{alarm['number']}/thumbnail")[1][:2] == b"\xff\xd8"
        assert ask(live.port, "GET", "/api/events/9999/thumbnail")[0] == 404


def test_pictures_are_encoded_once_for_all_and_never_unwatched(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[Any] = []
    real = feed.jpeg

    def counting(pixels: Any) -> bytes:
        encoded.append(pixels)
        return real(pixels)

    monkeypatch.setattr(feed, "jpeg", counting)
    live = start()
    deadline = time.monotonic() + DEADLINE_S
    while (live.dashboard._observations.ticks < PAST_TICKS + 5) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert encoded == []
    with watch(live.port) as one, watch(live.port) as two:
        first, _ = until_state(one)
        for client in (one, two):
            until_state(client, lambda s: s["index"] >= first["index"] + 5)
    assert len(encoded) >= 2 and len({id(pixels) for pixels in encoded}) == len(encoded)


def test_a_client_that_does_not_read_delays_nobody(start: Start) -> None:
    live = start()
    stuck = socket.create_connection(("127.0.0.1", live.port))
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stuck.sendall(
        f"GET /live HTTP/1.1\r\nHost: 127.0.0.1:{live.port}\r\nOrigin: http://127.0.0.1:{live.port}\r\n".encode()
        + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    with watch(live.port) as client:
        first, _ = until_state(client)
        later, _ = until_state(client, lambda s: s["index"] >= first["index"] + 12)
        assert later["tick_age_ms"] < 1500
    stuck.close()


def test_too_many_clients_are_told_so(start: Start) -> None:
    live = start()
    with ExitStack() as clients:
        for _ in range(feed.MAX_CLIENTS):
            until_state(clients.enter_context(watch(live.port)))
        extra = clients.enter_context(watch(live.port))
        with pytest.raises(ConnectionClosed) as closed:
            extra.recv(timeout=DEADLINE_S)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == feed.TRY_AGAIN_LATER


def test_a_client_that_talks_is_hung_up_on(start: Start) -> None:
    live = start()
    with watch(live.port) as client:
        client.send("arm")
        with pytest.raises(ConnectionClosed):
            while True:
                client.recv(timeout=DEADLINE_S)


def test_a_foreign_origin_cannot_open_the_socket(start: Start) -> None:
    live = start()
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{live.port}/live", origin="http://127.0.0.1:1")  # type: ignore[arg-type]
    assert refused.value.response.status_code == 403


def test_the_stop_does_not_wait_for_a_slow_arm(start: Start) -> None:
    class Slow(RecordingOperator):
        entered = threading.Event()
        release = threading.Event()

        def arm(self) -> None:
            self.entered.set()
            assert self.release.wait(DEADLINE_S)
            super().arm()

    operator = Slow()
    live = start(operator)
    arming = threading.Thread(target=ask, args=(live.port, "POST", "/api/arm", live.token, {}))
    arming.start()
    assert operator.entered.wait(DEADLINE_S)
    status, _ = ask(live.port, "POST", "/api/stop", live.token, {"reason": "test"})
    assert (status, operator.calls) == (200, ["stop: test"])
    operator.release.set()
    arming.join()


def test_the_stop_does_not_wait_for_its_own_body(start: Start) -> None:
    operator = RecordingOperator()
    live = start(operator)
    with socket.create_connection(("127.0.0.1", live.port), timeout=DEADLINE_S) as half:
        half.sendall(
            f"POST /api/stop HTTP/1.1\r\nHost: 127.0.0.1:{live.port}\r\nOrigin: http://127.0.0.1:{live.port}\r\n"
            "Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{".encode()
        )
        assert half.recv(12) == b"HTTP/1.1 200"
    assert len(operator.calls) == 1


def test_a_tick_that_cannot_be_shown_is_named_and_the_stop_still_works(start: Start) -> None:
    operator = RecordingOperator()
    live = start(operator)
    with watch(live.port) as client:
        until_state(client)
        live.stop_ticking()
        live.dashboard.observe(Tick(9999, 0, frame=Frame(np.zeros((0, 0, 3), np.uint8), 0, 0)))
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            message = client.recv(timeout=DEADLINE_S)
            if isinstance(message, str) and json.loads(message)["type"] == "problem":
                break
        else:
            raise AssertionError("the problem was not told")
        assert ask(live.port, "POST", "/api/stop", live.token, {})[0] == 200
    assert len(operator.calls) == 1


def test_health_follows_the_loop_not_the_server(tmp_path: Path) -> None:
    clock = FakeClock(start_ns=NS_PER_S)
    page = Dashboard(title="t", operator=None, port=0, token_path=tmp_path / "token", clock=clock)
    port = int(page.start().rstrip("/").rpartition(":")[2])
    try:
        assert ask(port, "GET", "/healthz")[0] == 503
        page.observe(Tick(0, clock.now_ns()))
        assert ask(port, "GET", "/healthz")[0] == 200
        clock.advance_ns(2 * NS_PER_S + 1)
        assert ask(port, "GET", "/healthz") == (503, b'{"ok":false,"last_tick_s":2.000000001}')
    finally:
        page.close()


def test_metrics_are_valid_prometheus_text(start: Start) -> None:
    operator = RecordingOperator()
    operator.arm()
    live = start(operator)
    with watch(live.port) as client:
        until_state(client, lambda s: s["index"] > PAST_TICKS + 2)
    text = ask(live.port, "GET", "/metrics")[1].decode()
    values = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert values["latentloop_ticks_total",] > PAST_TICKS
    assert values["latentloop_state", RobotState.ACTING.value] == 1.0
    assert values["latentloop_stage_seconds", "0.5", "plan"] == pytest.approx(0.053, abs=0.01)
    assert values["latentloop_link_frames_total", "crc_errors"] == 0.0


def test_off_loopback_the_token_is_needed_even_from_this_machine(start: Start) -> None:
    live = start(RecordingOperator(), host="0.0.0.0")
    assert ask(live.port, "GET", "/api/session")[0] == 401
    assert ask(live.port, "GET", "/api/session", live.token)[0] == 200
    assert socket.gethostname() in live.url


def test_a_port_in_use_is_one_sentence_with_a_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        page = Dashboard(title="t", operator=None, port=port, token_path=tmp_path / "token")
        with pytest.raises(DashboardError, match=f"port {port} on 127.0.0.1 is in use by another program; .* another port"):
            page.start()
        page.close()


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [
        ("192.0.2.77", 0, "this machine has no address 192.0.2.77"),
        ("not an address", 0, "is not valid"),
        ("127.0.0.1", 70000, "70000 is not a port"),
        ("127.0.0.1", -1, "-1 is not a port"),
    ],
)
def test_an_address_that_cannot_be_served_is_named(tmp_path: Path, host: str, port: int, words: str) -> None:
    page = Dashboard(title="t", operator=None, host=host, port=port, token_path=tmp_path / "token")
    with pytest.raises(DashboardError, match=words):
        page.start()


def test_closing_hangs_up_and_frees_the_port_and_may_be_repeated(start: Start) -> None:
    live = start()
    with watch(live.port) as client:
        until_state(client)
        live.close()
        live.close()
        with pytest.raises(ConnectionClosed):
            while True:
                client.recv(timeout=DEADLINE_S)
    with socket.create_server(("127.0.0.1", live.port)):
        pass
    assert not any(thread.name == "dashboard" for thread in threading.enumerate())


def test_nothing_of_the_server_reaches_the_log(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    live = start()
    with watch(live.port) as client:
        until_state(client)
    ask(live.port, "GET", "/nothing-here")
    with socket.create_connection(("127.0.0.1", live.port)) as rude:
        rude.sendall(b"\x16\x03\x01 not http\r\n\r\n")
        rude.recv(100)
    live.close()
    assert capfd.readouterr() == ("", "")
