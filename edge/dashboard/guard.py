"""Lets through only requests that the person at this machine can have meant.

A dashboard on loopback is reachable from every web page its owner opens. Three checks, for HTTP and WebSocket alike,
before anything else runs: the Host is one of ours (stops DNS rebinding), the Origin is the page itself (stops other
pages), and whatever changes something comes as JSON from an operator. See docs/dashboard.md for the table.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.dashboard.access import Access

VIEWER = "viewer"
OPERATOR = "operator"
STOP_PATH = "/api/stop"
LOGIN_PATH = "/login"
BEFORE_LOGIN = frozenset({LOGIN_PATH, "/static/login.js", "/static/page.css", "/static/icon.svg"})

_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request goes no further."""

    status: int
    reason: str
    retry_after_s: int = 0


class Guard:
    """Pure ASGI: covers http and websocket. Puts the caller's role into ``scope["role"]``.

    open_to_viewers: True on loopback, where looking needs no login. names: host names that are us, lower case.
    cookie: the session cookie's name.
    """

    def __init__(
        self, app: ASGIApp, *, access: Access, open_to_viewers: bool, names: frozenset[str], cookie: str
    ) -> None:
        self._app = app
        self._access = access
        self._open_to_viewers = open_to_viewers
        self._names = names
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        verdict = self.judge(scope, headers)
        if isinstance(verdict, Refusal):
            await _refuse(scope, headers, receive, send, verdict)
            return
        scope["role"] = verdict
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        host = headers["host"]
        static = scope["path"].startswith("/static/")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _protect(MutableHeaders(scope=message), host, static)
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def judge(self, scope: Scope, headers: Headers) -> str | Refusal:
        """The caller's role, or why not."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or (match := _HOST.fullmatch(hosts[0])) is None:
            return Refusal(400, "the request needs exactly one valid Host header")
        if not self._is_us(match["name"].lower().rstrip("."), scope):
            return Refusal(421, f"this dashboard is not called {match['name']}; open it by its IP address")

        bearer = self._bearer(scope, headers)
        if isinstance(bearer, Refusal):
            return bearer

        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        origins = headers.getlist("origin")
        if origins:
            scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
            if [origin.lower() for origin in origins] != [f"{scheme}://{hosts[0].lower()}"]:
                return Refusal(403, "requests from other pages are refused")
        elif changes and not bearer:
            return Refusal(403, "a request without an Origin header needs the operator token as bearer token")

        operator = bearer or self._has_session(headers)
        role = OPERATOR if operator else VIEWER
        path = scope["path"]
        if not operator and not self._open_to_viewers and path not in BEFORE_LOGIN:
            return Refusal(401, "sign in with the operator token first")
        if scope["type"] == "websocket" or not changes:
            return role
        if scope["method"] != "POST":
            return Refusal(405, "only GET, HEAD and POST are served")
        if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            return Refusal(415, "send JSON with Content-Type: application/json")
        # Stopping is safe, so on loopback whoever has the page open may stop. Everything else moves or forgives.
        if not operator and path not in (STOP_PATH, LOGIN_PATH):
            return Refusal(401, "sign in with the operator token first")
        return role

    def session_of(self, headers: Headers) -> str | None:
        """The session named in the cookie, valid or not."""
        try:
            morsel = SimpleCookie("; ".join(headers.getlist("cookie"))).get(self._cookie)
        except CookieError:
            return None
        return None if morsel is None else morsel.value

    def _has_session(self, headers: Headers) -> bool:
        session = self.session_of(headers)
        return session is not None and self._access.session_valid(session)

    def _bearer(self, scope: Scope, headers: Headers) -> bool | Refusal:
        authorization = headers.get("authorization")
        if authorization is None:
            return False
        address = address_of(scope)
        if wait := self._access.retry_after_s(address):
            return Refusal(429, f"too many wrong tokens; try again in {wait} s", wait)
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not self._access.token_matches(token.strip(), address):
            return Refusal(401, "the operator token is wrong")
        return True

    def _is_us(self, name: str, scope: Scope) -> bool:
        if name in self._names:
            return True
        asked = _ip(name.strip("[]"))
        if asked is None:
            return False
        # A rebinding attack needs a name, so an address is honest if it is the one this connection came in on.
        server = scope.get("server")
        return asked.is_loopback or (server is not None and asked == _ip(str(server[0])))


def address_of(scope: Scope) -> str:
    """The caller's address, for counting wrong tokens."""
    client = scope.get("client")
    return "" if client is None else str(client[0])


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _protect(headers: MutableHeaders, host: str, static: bool) -> None:
    headers["content-security-policy"] = (
        "default-src 'self'; img-src 'self' blob: data:; "
        f"connect-src 'self' ws://{host} wss://{host}; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    headers["x-content-type-options"] = "nosniff"
    headers["x-frame-options"] = "DENY"
    headers["referrer-policy"] = "no-referrer"
    headers["cross-origin-resource-policy"] = "same-origin"
    headers["cross-origin-opener-policy"] = "same-origin"
    headers["cache-control"] = "no-cache" if static else "no-store"


async def _refuse(scope: Scope, headers: Headers, receive: Receive, send: Send, refusal: Refusal) -> None:
    body = msgspec.json.encode({"error": refusal.reason})
    fields = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    fields += [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
    status = refusal.status
    if refusal.retry_after_s:
        fields.append((b"retry-after", str(refusal.retry_after_s).encode()))
    if scope["type"] == "websocket":
        await receive()
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": refusal.reason})
            return
        kind = "websocket.http.response"
    else:
        kind = "http.response"
        if status == 401 and scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            status = 303
            fields.append((b"location", LOGIN_PATH.encode()))
    await send({"type": f"{kind}.start", "status": status, "headers": fields})
    await send({"type": f"{kind}.body", "body": body})
