"""The dashboard's routes. Every request has passed :mod:`edge.dashboard.guard` before it gets here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from edge.clock import NS_PER_MS, NS_PER_S, Clock
from edge.dashboard.access import SESSION_NS, Access
from edge.dashboard.feed import Building, Feed, stale_after_ns
from edge.dashboard.guard import LOGIN_PATH, OPERATOR, STOP_PATH, Guard, address_of
from edge.dashboard.metrics import CONTENT_TYPE, Metrics
from edge.dashboard.observations import Observations
from edge.dashboard.operator import Operator, Refused

STATIC = Path(__file__).parent / "static"
MAX_BODY = 4096
STOP_BODY_TIMEOUT_S = 0.2

_logger = logging.getLogger(__name__)


class Login(msgspec.Struct, forbid_unknown_fields=True):
    token: str


class Stop(msgspec.Struct, forbid_unknown_fields=True):
    reason: str = "emergency stop pressed on the dashboard"


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    pass


class Pages:
    """The handlers; made once per dashboard. Everything but arm, disarm and clear runs in the event loop."""

    def __init__(
        self,
        *,
        title: str,
        axes: tuple[str, ...],
        period_s: float | None,
        operator: Operator | None,
        observations: Observations,
        engines: Building | None,
        access: Access,
        clock: Clock,
        open_to_viewers: bool,
        names: frozenset[str],
        cookie: str,
    ) -> None:
        self._title = title
        self._axes = axes
        self._stale_ns = stale_after_ns(period_s)
        self._operator = operator
        self._observations = observations
        self._access = access
        self._clock = clock
        self._open_to_viewers = open_to_viewers
        self._cookie = cookie
        self._feed = Feed(observations, clock, period_s, engines)
        self._metrics = Metrics(observations)
        self._acting = asyncio.Lock()
        routes = [
            Route("/", self._index),
            Route(LOGIN_PATH, self._login_page),
            Route(LOGIN_PATH, self._login, methods=["POST"]),
            Route("/logout", self._logout, methods=["POST"]),
            Route("/healthz", self._health),
            Route("/metrics", self._metrics_text),
            Route("/api/session", self._session),
            Route("/api/picture.jpg", self._picture),
            Route("/api/goal/{number:int}.jpg", self._goal),
            Route("/api/events/{number:int}/thumbnail", self._thumbnail),
            WebSocketRoute("/live", self._live),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
        if operator is not None:
            routes += [
                Route(STOP_PATH, self._stop, methods=["POST"]),
                Route("/api/arm", self._arm, methods=["POST"]),
                Route("/api/disarm", self._disarm, methods=["POST"]),
                Route("/api/clear", self._clear, methods=["POST"]),
            ]
        self._guard = Guard(
            Starlette(routes=routes, lifespan=self._lifespan),
            access=access,
            open_to_viewers=open_to_viewers,
            names=names,
            cookie=cookie,
        )

    @property
    def asgi(self) -> ASGIApp:
        """The guarded application."""
        return self._guard

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        feeding = asyncio.create_task(self._feed.run())
        try:
            yield
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    # What everybody may see

    async def _index(self, _: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def _session(self, request: Request) -> Response:
        return _json(
            {
                "title": self._title,
                "axes": self._axes,
                "has_motors": self._operator is not None,
                "operator": request.scope["role"] == OPERATOR,
                "open_to_viewers": self._open_to_viewers,
                "stale_ms": self._stale_ns / NS_PER_MS,
            }
        )

    async def _live(self, socket: WebSocket) -> None:
        await self._feed.serve(socket)

    async def _health(self, _: Request) -> Response:
        age_ns = self._observations.age_ns()
        alive = age_ns is not None and age_ns <= self._stale_ns
        seconds = None if age_ns is None else age_ns / NS_PER_S
        return _json({"ok": alive, "last_tick_s": seconds}, 200 if alive else 503)

    async def _metrics_text(self, _: Request) -> Response:
        return Response(self._metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def _picture(self, _: Request) -> Response:
        return _image(self._feed.newest_picture(), "there is no picture yet")

    async def _goal(self, request: Request) -> Response:
        return _image(self._feed.goal_picture(request.path_params["number"]), "that goal has no picture now")

    async def _thumbnail(self, request: Request) -> Response:
        event = self._observations.event(request.path_params["number"])
        return _image(event.thumbnail if event is not None else None, "that event has no thumbnail or is forgotten")

    # Signing in and out

    async def _login_page(self, _: Request) -> Response:
        return FileResponse(STATIC / "login.html")

    async def _login(self, request: Request) -> Response:
        asked = await _body(request, Login)
        if isinstance(asked, Response):
            return asked
        address = address_of(request.scope)
        if wait := self._access.retry_after_s(address):
            reply = _json({"error": f"too many wrong tokens; try again in {wait} s"}, 429)
            reply.headers["retry-after"] = str(wait)
            return reply
        if not self._access.token_matches(asked.token.strip(), address):
            return _json({"error": "that is not the operator token"}, 401)
        reply = _json({"operator": True})
        reply.set_cookie(
            self._cookie,
            self._access.open_session(),
            max_age=SESSION_NS // NS_PER_S,
            httponly=True,
            samesite="strict",
            secure=request.scope["scheme"] == "https",
        )
        return reply

    async def _logout(self, request: Request) -> Response:
        session = self._guard.session_of(request.headers)
        if session is not None:
            self._access.close_session(session)
        reply = _json({"operator": False})
        reply.delete_cookie(self._cookie, httponly=True, samesite="strict")
        return reply

    # What the operator may do

    async def _stop(self, request: Request) -> Response:
        # Straight from the event loop: no thread pool, no lock, nothing that somebody else's slow request holds.
        # Whatever the body says, and even if it never arrives, the request means stop; only the reason may be lost.
        reason = Stop().reason
        with contextlib.suppress(asyncio.TimeoutError, ClientDisconnect):
            asked = await asyncio.wait_for(_body(request, Stop), STOP_BODY_TIMEOUT_S)
            reason = reason if isinstance(asked, Response) else asked.reason[:200]
        assert self._operator is not None
        try:
            self._operator.emergency_stop(reason)
        except Exception as error:
            _logger.exception("the emergency stop failed")
            return _json({"error": f"the robot did not take the stop: {error}"}, 500)
        return _json({"done": "stop"})

    async def _arm(self, request: Request) -> Response:
        assert self._operator is not None
        return await self._act(request, "arm", self._operator.arm)

    async def _disarm(self, request: Request) -> Response:
        assert self._operator is not None
        return await self._act(request, "disarm", self._operator.disarm)

    async def _clear(self, request: Request) -> Response:
        assert self._operator is not None
        return await self._act(request, "clear", self._operator.clear_stop)

    async def _act(self, request: Request, verb: str, act: Callable[[], None]) -> Response:
        asked = await _body(request, Nothing)
        if isinstance(asked, Response):
            return asked
        # In a worker thread, so that a slow serial line cannot hold up a stop; one at a time, so that they keep order.
        try:
            async with self._acting:
                await run_in_threadpool(act)
        except Refused as refused:
            return _json({"error": str(refused)}, 409)
        except Exception as error:
            _logger.exception("the operator's request to %s failed", verb)
            return _json({"error": f"the robot could not {verb}: {error}"}, 500)
        return _json({"done": verb})


_Asked = TypeVar("_Asked", Login, Stop, Nothing)


async def _body(request: Request, kind: type[_Asked]) -> _Asked | Response:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            return _json({"error": f"a request body may have at most {MAX_BODY} bytes"}, 413)
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.DecodeError as error:
        return _json({"error": f"the request body is not what this address takes: {error}"}, 400)


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _image(data: bytes | None, missing: str) -> Response:
    return Response(data, media_type="image/jpeg") if data else _json({"error": missing}, 404)
