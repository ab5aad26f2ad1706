"""Live data for the people watching: one WebSocket each, one encoding for all, nothing queued but the newest.

Text messages are JSON (:mod:`edge.dashboard.state`), binary ones are the newest picture as JPEG, preceded by the
state it belongs to. Nothing is computed while nobody watches.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from edge.clock import NS_PER_MS, NS_PER_S, Clock
from edge.dashboard.observations import Newest, Observations
from edge.dashboard.picture import jpeg
from edge.dashboard.state import More, Problem, Timings, describe, more, timings
from edge.messages import EngineBuild, Frame, Goal

BEAT_S = 0.1
"""At most ten states and pictures a second."""
KEEPALIVE_NS = 500 * NS_PER_MS
"""A state is sent this often even when the loop stands still, so that the page can tell that from a lost link."""
TIMINGS_NS = 500 * NS_PER_MS
MAX_CLIENTS = 8
TRY_AGAIN_LATER = 1013

_logger = logging.getLogger(__name__)


class Building(Protocol):
    """Engines built in the background, as :class:`edge.engines.tensorrt.background.BackgroundBuild` does it."""

    @property
    def state(self) -> EngineBuild:
        """How far it is; read by the dashboard's thread."""


class _Client:
    """One browser. The slots hold the newest only: a slow client misses pictures, it never delays anybody."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.state: str | None = None
        self.picture: bytes | None = None
        self.samples_seen = 0
        self.events_seen = 0


class Feed:
    """Runs in the dashboard's event loop only. period_s: the loop's tick period, None if it runs as fast as it can."""

    def __init__(self, observations: Observations, clock: Clock, period_s: float | None, engines: Building | None) -> None:
        self._observations = observations
        self._engines = engines
        self._clock = clock
        self._period_ms = None if period_s is None else period_s * 1000.0
        self._clients: set[_Client] = set()
        self._watched = asyncio.Event()
        self._encoder = msgspec.json.Encoder()
        self._timings = Timings(None, [], None, None, None)
        self._timings_at_ns = -TIMINGS_NS
        self._frame: Frame | None = None
        self._jpeg: bytes | None = None
        self._sent_frame: Frame | None = None
        self._goal: Goal | None = None
        self._goal_number = 0
        self._sent_number = 0
        self._sent_at_ns = 0
        self._problem = ""

    async def run(self) -> None:
        """Encode and hand out, until cancelled."""
        while True:
            await self._watched.wait()
            try:
                self._beat()
            except Exception as error:
                # A tick that cannot be shown must not end the page: the stop button is on it.
                text = (
                    f"The dashboard cannot show this tick ({type(error).__name__}: {error}); the loop is not affected."
                )
                if text != self._problem:
                    _logger.exception("a tick could not be shown")
                self._say(text)
            await asyncio.sleep(BEAT_S)

    async def serve(self, socket: WebSocket) -> None:
        """One client, from its acceptance until it leaves."""
        await socket.accept()
        if len(self._clients) >= MAX_CLIENTS:
            await socket.close(TRY_AGAIN_LATER, f"{MAX_CLIENTS} people are watching already")
            return
        client = _Client()
        self._clients.add(client)
        self._sent_number = 0  # the newcomer gets a state on the next beat even if the loop stands still
        self._watched.set()
        client.wake.set()
        talking = asyncio.create_task(self._talk(socket, client))
        listening = asyncio.create_task(_listen(socket))
        try:
            await asyncio.wait((talking, listening), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._clients.discard(client)
            if not self._clients:
                self._watched.clear()
                self._frame = self._jpeg = self._sent_frame = None
            for task in (talking, listening):
                task.cancel()
            await asyncio.gather(talking, listening, return_exceptions=True)

    def goal_picture(self, number: int) -> bytes | None:
        """The picture of the goal with that number as JPEG, or None if that goal is gone or has none."""
        if number != self._goal_number or self._goal is None or self._goal.picture is None:
            return None
        return jpeg(self._goal.picture)

    def newest_picture(self) -> bytes | None:
        """The newest frame as JPEG, or None."""
        newest = self._observations.newest()
        return None if newest is None or newest.tick.frame is None else self._encoded(newest.tick.frame)

    def _beat(self) -> None:
        newest = self._observations.newest()
        if newest is None:
            return
        now_ns = self._clock.now_ns()
        if newest.number == self._sent_number and now_ns - self._sent_at_ns < KEEPALIVE_NS:
            return
        text = self._state_text(newest, now_ns)
        frame = newest.tick.frame
        fresh = frame is not None and (frame is not self._sent_frame or self._sent_number == 0)
        picture = self._encoded(frame) if fresh and frame is not None else None
        self._sent_number, self._sent_at_ns, self._sent_frame = newest.number, now_ns, frame
        self._problem = ""
        for client in self._clients:
            client.state = text
            client.picture = picture or client.picture
            client.wake.set()

    def _state_text(self, newest: Newest, now_ns: int) -> str:
        if now_ns - self._timings_at_ns >= TIMINGS_NS:
            self._timings = timings(self._observations.samples())
            self._timings_at_ns = now_ns
        goal = newest.tick.goal
        if goal is not self._goal:
            self._goal = goal
            self._goal_number += 1
        pictured = self._goal_number if goal is not None and goal.picture is not None else 0
        building = None if self._engines is None else self._engines.state
        return self._encoder.encode(describe(newest, now_ns, self._timings, self._period_ms, pictured, building)).decode()

    def _encoded(self, frame: Frame) -> bytes:
        if self._jpeg is None or frame is not self._frame:
            self._jpeg = jpeg(frame.pixels)
            self._frame = frame
        return self._jpeg

    def _more(self, client: _Client) -> More | None:
        samples = self._observations.samples()
        events = self._observations.events()
        # Numbers count up by one, so the new ones are the last few.
        samples = samples[max(0, len(samples) - (samples[-1].number - client.samples_seen)) :] if samples else []
        events = events[max(0, len(events) - (events[-1].number - client.events_seen)) :] if events else []
        if not samples and not events:
            return None
        if samples:
            client.samples_seen = samples[-1].number
        if events:
            client.events_seen = events[-1].number
        return more(samples, events)

    async def _talk(self, socket: WebSocket, client: _Client) -> None:
        while True:
            await client.wake.wait()
            client.wake.clear()
            news = self._more(client)
            if news is not None:
                await socket.send_text(self._encoder.encode(news).decode())
            state, client.state = client.state, None
            if state is not None:
                await socket.send_text(state)
            picture, client.picture = client.picture, None
            if picture is not None:
                await socket.send_bytes(picture)

    def _say(self, problem: str) -> None:
        self._problem = problem
        encoded = self._encoder.encode(Problem(problem)).decode()
        for client in self._clients:
            client.state = encoded
            client.wake.set()


async def _listen(socket: WebSocket) -> None:
    # The page sends nothing; hearing it leave is all that is listened for, and a client that talks is not our page.
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            await socket.close(1003, "this socket only sends")
            return
    except WebSocketDisconnect:
        return


def stale_after_ns(period_s: float | None) -> int:
    """How long the loop may be silent before it counts as standing still."""
    return max(2 * NS_PER_S, 0 if period_s is None else int(5 * period_s * NS_PER_S))
