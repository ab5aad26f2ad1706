"""Who gets through to what, as a table; then what no header may do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.clock import NS_PER_S, FakeClock
from edge.dashboard.access import MAX_FAILURES, SESSION_NS, Access, TokenError, load_or_create_token
from edge.dashboard.app import Pages
from edge.dashboard.observations import Observations
from tests.edge.dashboard.synthetic_ticks import RecordingOperator

TOKEN = "t" * 43
COOKIE = "latentloop-8420"
ME = "127.0.0.1:8420"
JSON = "application/json"


class Served:
    """The guarded application without a server, on loopback or on a LAN address."""

    def __init__(self, lan: bool = False, watch: bool = False) -> None:
        self.clock = FakeClock(start_ns=NS_PER_S)
        self.operator = RecordingOperator()
        self.access = Access(TOKEN, self.clock)
        self.lan = lan
        self.asgi = Pages(
            title="test",
            axes=(),
            period_s=None,
            operator=None if watch else self.operator,
            observations=Observations(self.clock),
            engines=None,
            access=self.access,
            clock=self.clock,
            open_to_viewers=not lan,
            names=frozenset({"localhost", "rover.local"} if lan else {"localhost"}),
            cookie=COOKIE,
        ).asgi

    def ask(
        self, method: str, path: str, headers: list[tuple[str, str]], body: bytes = b"{}", client: str = "10.0.0.9"
    ) -> tuple[int, dict[str, str], bytes]:
        """One request; method "WS" opens a WebSocket, whose status is 101 when accepted."""
        sent: list[dict[str, Any]] = []
        websocket = method == "WS"
        scope: dict[str, Any] = {
            "type": "websocket" if websocket else "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws" if websocket else "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
            "client": (client, 50000),
            "server": ("192.168.7.2" if self.lan else "127.0.0.1", 8420),
            "extensions": {"websocket.http.response": {}} if websocket else {},
        }
        if websocket:
            incoming = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1001}]
            scope["subprotocols"] = []
        else:
            scope["method"] = method
            incoming = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if incoming:
                return incoming.pop(0)
            await asyncio.sleep(3600)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.asgi(scope, receive, send))
        if sent[0]["type"] == "websocket.accept":
            return 101, {}, b""
        first = next(m for m in sent if m["type"].endswith(".start"))
        reply = {name.decode(): value.decode() for name, value in first["headers"]}
        return first["status"], reply, b"".join(m.get("body", b"") for m in sent)


class Case(NamedTuple):
    method: str
    path: str
    host: str | None
    origin: str | None
    who: str
    content: str | None
    status: int
    calls: list[str]
    lan: bool = False


STOPPED = ["stop: emergency stop pressed on the dashboard"]
SELF = f"http://{ME}"
LAN = "192.168.7.2:8420"
LAN_SELF = f"http://{LAN}"

CASES = [
    # Looking, on loopback: no login, but only under our own names and never for another page.
    Case("GET", "/", ME, None, "nobody", None, 200, []),
    Case("GET", "/api/session", "localhost:8420", None, "nobody", None, 200, []),
    Case("GET", "/api/session", "LOCALHOST.:9000", None, "nobody", None, 200, []),
    Case("GET", "/api/session", "[::1]:8420", None, "nobody", None, 200, []),
    Case("GET", "/api/session", "evil.test:8420", None, "nobody", None, 421, []),
    Case("GET", "/api/session", "localhost.evil.test", None, "nobody", None, 421, []),
    Case("GET", "/api/session", "8.8.8.8:8420", None, "nobody", None, 421, []),
    Case("GET", "/api/session", None, None, "nobody", None, 400, []),
    Case("GET", "/api/session", "127.0.0.1:8420@evil.test", None, "nobody", None, 400, []),
    Case("GET", "/api/session", ME, "http://evil.test", "nobody", None, 403, []),
    Case("GET", "/api/session", ME, "null", "nobody", None, 403, []),
    Case("GET", "/api/session", ME, None, "wrong bearer", None, 401, []),
    Case("WS", "/live", ME, SELF, "nobody", None, 101, []),
    Case("WS", "/live", ME, None, "bearer", None, 101, []),
    Case("WS", "/live", ME, None, "nobody", None, 403, []),
    Case("WS", "/live", ME, "http://127.0.0.1:9999", "nobody", None, 403, []),
    Case("WS", "/live", ME, "http://127.0.0.1:9999", "cookie", None, 403, []),
    Case("WS", "/live", "evil.test:8420", "http://evil.test:8420", "nobody", None, 421, []),
    # Acting: same page, JSON, operator.
    Case("POST", "/api/arm", ME, SELF, "cookie", JSON, 200, ["arm"]),
    Case("POST", "/api/arm", ME, SELF, "cookie", JSON + "; charset=utf-8", 200, ["arm"]),
    Case("POST", "/api/arm", ME, None, "bearer", JSON, 200, ["arm"]),
    Case("POST", "/api/disarm", ME, SELF, "cookie", JSON, 200, ["disarm"]),
    Case("POST", "/api/clear", ME, SELF, "cookie", JSON, 200, ["clear"]),
    Case("POST", "/api/arm", ME, SELF, "nobody", JSON, 401, []),
    Case("POST", "/api/disarm", ME, SELF, "nobody", JSON, 401, []),
    Case("POST", "/api/clear", ME, SELF, "nobody", JSON, 401, []),
    Case("POST", "/api/arm", ME, SELF, "old cookie", JSON, 401, []),
    Case("POST", "/api/arm", ME, SELF, "wrong cookie", JSON, 401, []),
    Case("POST", "/api/arm", ME, SELF, "wrong bearer", JSON, 401, []),
    Case("POST", "/api/arm", ME, None, "cookie", JSON, 403, []),
    Case("POST", "/api/arm", ME, "http://127.0.0.1:9999", "cookie", JSON, 403, []),
    Case("POST", "/api/arm", ME, "https://" + ME, "cookie", JSON, 403, []),
    Case("POST", "/api/arm", ME, "null", "cookie", JSON, 403, []),
    Case("POST", "/api/arm", ME, "http://evil.test", "bearer", JSON, 403, []),
    Case("POST", "/api/arm", ME, SELF, "cookie", "text/plain", 415, []),
    Case("POST", "/api/arm", ME, SELF, "cookie", "application/x-www-form-urlencoded", 415, []),
    Case("POST", "/api/arm", ME, SELF, "cookie", None, 415, []),
    Case("GET", "/api/arm", ME, SELF, "cookie", None, 405, []),
    Case("PUT", "/api/arm", ME, SELF, "cookie", JSON, 405, []),
    Case("OPTIONS", "/api/arm", ME, "http://evil.test", "nobody", None, 403, []),
    # Stopping is safe: whoever has the page open on this machine may; a foreign page may not.
    Case("POST", "/api/stop", ME, SELF, "nobody", JSON, 200, STOPPED),
    Case("POST", "/api/stop", ME, SELF, "cookie", JSON, 200, STOPPED),
    Case("POST", "/api/stop", ME, None, "bearer", JSON, 200, STOPPED),
    Case("POST", "/api/stop", ME, None, "nobody", JSON, 403, []),
    Case("POST", "/api/stop", ME, "http://127.0.0.1:9999", "nobody", JSON, 403, []),
    Case("POST", "/api/stop", ME, "http://127.0.0.1:9999", "cookie", JSON, 403, []),
    Case("POST", "/api/stop", ME, SELF, "nobody", "text/plain", 415, []),
    Case("POST", "/api/stop", "evil.test:8420", "http://evil.test:8420", "nobody", JSON, 421, []),
    # Off loopback everything needs the token, the way in excepted.
    Case("GET", "/login", LAN, None, "nobody", None, 200, [], lan=True),
    Case("GET", "/static/login.js", LAN, None, "nobody", None, 200, [], lan=True),
    Case("GET", "/static/main.js", LAN, None, "nobody", None, 401, [], lan=True),
    Case("GET", "/", LAN, None, "nobody", None, 401, [], lan=True),
    Case("GET", "/", LAN, None, "cookie", None, 200, [], lan=True),
    Case("GET", "/", "rover.local:8420", None, "cookie", None, 200, [], lan=True),
    Case("GET", "/", "10.9.9.9:8420", None, "cookie", None, 421, [], lan=True),
    Case("GET", "/healthz", LAN, None, "nobody", None, 401, [], lan=True),
    Case("GET", "/healthz", LAN, None, "bearer", None, 503, [], lan=True),
    Case("GET", "/metrics", LAN, None, "nobody", None, 401, [], lan=True),
    Case("GET", "/metrics", LAN, None, "bearer", None, 200, [], lan=True),
    Case("WS", "/live", LAN, LAN_SELF, "nobody", None, 401, [], lan=True),
    Case("WS", "/live", LAN, LAN_SELF, "cookie", None, 101, [], lan=True),
    Case("POST", "/api/stop", LAN, LAN_SELF, "nobody", JSON, 401, [], lan=True),
    Case("POST", "/api/stop", LAN, LAN_SELF, "cookie", JSON, 200, STOPPED, lan=True),
    Case("POST", "/api/arm", LAN, LAN_SELF, "cookie", JSON, 200, ["arm"], lan=True),
]


def credentials(who: str, served: Served) -> list[tuple[str, str]]:
    if who == "bearer":
        return [("authorization", f"Bearer {TOKEN}")]
    if who == "wrong bearer":
        return [("authorization", "Bearer " + "x" * 43)]
    if who == "cookie":
        return [("cookie", f"other=1; {COOKIE}={served.access.open_session()}")]
    if who == "old cookie":
        session = served.access.open_session()
        served.clock.advance_ns(SESSION_NS)
        return [("cookie", f"{COOKIE}={session}")]
    if who == "wrong cookie":
        return [("cookie", f"{COOKIE}={'x' * 43}")]
    return []


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.method}{c.path}-{c.host}-{c.origin}-{c.who}-{c.content}")
def test_table(case: Case) -> None:
    served = Served(lan=case.lan)
    headers = credentials(case.who, served)
    headers += [("host", case.host)] if case.host is not None else []
    headers += [("origin", case.origin)] if case.origin is not None else []
    headers += [("content-type", case.content)] if case.content is not None else []
    status, _, _ = served.ask(case.method, case.path, headers)
    assert (status, served.operator.calls) == (case.status, case.calls)


def test_two_hosts_or_two_origins_are_refused() -> None:
    served = Served()
    assert served.ask("GET", "/", [("host", ME), ("host", ME)])[0] == 400
    two = [("host", ME), ("origin", SELF), ("origin", "http://evil.test"), ("content-type", JSON)]
    assert served.ask("POST", "/api/stop", two)[0] == 403


def test_a_browser_off_loopback_is_sent_to_the_login_page() -> None:
    status, headers, _ = Served(lan=True).ask("GET", "/", [("host", LAN), ("accept", "text/html,*/*")])
    assert (status, headers["location"]) == (303, "/login")


def test_pages_carry_the_protecting_headers() -> None:
    served = Served()
    for path in ("/", "/login", "/api/session", "/static/main.js"):
        _, headers, _ = served.ask("GET", path, [("host", ME)])
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == ("no-cache" if path.startswith("/static") else "no-store")
        assert "access-control-allow-origin" not in headers


def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites() -> None:
    headers = [("host", ME), ("origin", SELF), ("content-type", JSON)]
    _, reply, _ = Served().ask("POST", "/login", headers, body=f'{{"token":"{TOKEN}"}}'.encode())
    cookie = reply["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and TOKEN not in cookie


def test_signing_out_ends_the_session() -> None:
    served = Served()
    cookie = credentials("cookie", served)
    same = [("host", ME), ("origin", SELF), ("content-type", JSON), *cookie]
    assert served.ask("POST", "/logout", same)[0] == 200
    assert served.ask("POST", "/api/arm", same)[0] == 401


def test_guessing_is_slowed_down_per_address() -> None:
    served = Served()
    headers = [("host", ME), ("origin", SELF), ("content-type", JSON)]
    right = f'{{"token":"{TOKEN}"}}'.encode()
    for _ in range(MAX_FAILURES):
        assert served.ask("POST", "/login", headers, body=b'{"token":"guess"}')[0] == 401
    status, reply, _ = served.ask("POST", "/login", headers, body=right)
    assert status == 429 and int(reply["retry-after"]) == 60
    assert served.ask("GET", "/", [("host", ME), ("authorization", f"Bearer {TOKEN}")])[0] == 429
    assert served.ask("POST", "/login", headers, body=right, client="10.0.0.10")[0] == 200
    served.clock.advance_ns(60 * NS_PER_S)
    assert served.ask("POST", "/login", headers, body=right)[0] == 200


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/login", b"", 400),
        ("/login", b"[]", 400),
        ("/login", b'{"token":5}', 400),
        ("/login", b'{"token":"a","more":1}', 400),
        ("/login", b"\xff\xfe", 400),
        ("/login", b'{"token":"' + b"a" * 5000 + b'"}', 413),
        ("/logout", b"", 401),
    ],
)
def test_bad_bodies_are_named_not_traced(path: str, body: bytes, status: int) -> None:
    got, _, reply = Served().ask("POST", path, [("host", ME), ("origin", SELF), ("content-type", JSON)], body=body)
    assert got == status and reply.startswith(b'{"error":"') and b"Traceback" not in reply


@pytest.mark.parametrize("body", [b"", b"not json", b'{"reason":7}', b"x" * 9000])
def test_a_stop_with_a_broken_body_still_stops(body: bytes) -> None:
    served = Served()
    headers = [("host", ME), ("origin", SELF), ("content-type", JSON)]
    assert served.ask("POST", "/api/stop", headers, body=body)[0] == 200
    assert served.operator.calls == STOPPED


def test_without_an_operator_there_is_nothing_to_arm_or_stop() -> None:
    served = Served(watch=True)
    headers = [("host", ME), ("content-type", JSON), ("authorization", f"Bearer {TOKEN}")]
    for path in ("/api/arm", "/api/stop", "/api/disarm", "/api/clear"):
        assert served.ask("POST", path, headers)[0] == 404


def test_a_refusal_is_passed_on_in_words() -> None:
    served = Served()
    served.operator.refuse = "the camera is covered; uncover it, then arm"
    headers = [("host", ME), ("content-type", JSON), ("authorization", f"Bearer {TOKEN}")]
    assert served.ask("POST", "/api/arm", headers)[::2] == (
        409,
        b'{"error":"the camera is covered; uncover it, then arm"}',
    )


SERVED_TO_ALL = Served()


@settings(max_examples=150, deadline=None)
@given(
    host=st.text(st.characters(max_codepoint=255), max_size=40)
    | st.from_regex(r"\A(localhost|127\.0\.0\.1|\[::1\])[.:@/#?%\\ a-z0-9-]{0,12}\Z"),
    origin=st.none() | st.text(st.characters(max_codepoint=255), max_size=40),
)
def test_no_header_arms_without_the_token(host: str, origin: str | None) -> None:
    served = SERVED_TO_ALL
    headers = [("host", host), ("content-type", JSON)] + ([] if origin is None else [("origin", origin)])
    status, _, _ = served.ask("POST", "/api/arm", headers)
    assert status in (400, 401, 403, 421) and served.operator.calls == []


def test_the_token_is_made_once_and_for_this_user_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "token"
    token = load_or_create_token(path)
    assert len(token) >= 43 and path.stat().st_mode & 0o777 == 0o600
    assert load_or_create_token(path) == token


def test_unusable_token_files_are_refused_with_a_remedy(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.write_text("t" * 43)
    shared.chmod(0o644)
    with pytest.raises(TokenError, match=f"chmod 600 {shared}"):
        load_or_create_token(shared)
    empty = tmp_path / "empty"
    empty.touch(mode=0o600)
    with pytest.raises(TokenError, match="delete it and start again"):
        load_or_create_token(empty)
    with pytest.raises(TokenError, match="cannot be used"):
        load_or_create_token(shared / "below" / "token")
