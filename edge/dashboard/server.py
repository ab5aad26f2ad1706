"""Serves the dashboard from a thread of its own, so that the loop neither knows nor waits."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from edge.clock import Clock, MonotonicClock
from edge.dashboard.access import Access, TokenError, load_or_create_token
from edge.dashboard.app import Pages
from edge.dashboard.feed import Building
from edge.dashboard.observations import Observations
from edge.dashboard.operator import Operator
from edge.errors import UserError
from edge.messages import Tick

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
_EVERYWHERE = ("", "0.0.0.0", "::")

_logger = logging.getLogger(__name__)


class DashboardError(UserError):
    """The dashboard cannot be served; the message says why and what to do, in one sentence."""


class _Server(uvicorn.Server):
    """A server that says when it has started or given up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.settled.set()


class Dashboard:
    """One page for one loop.

    operator: who carries out the page's verbs; None hides everything about motors. host: loopback by default, where
    looking needs no login; on any other address everything needs the token. port: 0 takes any free one.
    token_path: the operator token, created if absent. axes: names of the motor axes. period_s: the loop's tick
    period, against which stage times are drawn; None if it runs as fast as it can. engines: the build of engines in the
    background, if there is one.
    """

    def __init__(
        self,
        *,
        title: str,
        operator: Operator | None,
        host: str = "127.0.0.1",
        port: int = 8420,
        token_path: Path,
        clock: Clock | None = None,
        axes: Sequence[str] = (),
        period_s: float | None = None,
        engines: Building | None = None,
    ) -> None:
        self._title = title
        self._operator = operator
        self._host = host
        self._port = port
        self._token_path = token_path
        self._clock = MonotonicClock() if clock is None else clock
        self._axes = tuple(axes)
        self._period_s = period_s
        self._engines = engines
        self._observations = Observations(self._clock)
        self._token = ""
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> str:
        """Serve; returns the page's URL once connections are taken. Raises DashboardError if it cannot be served."""
        if self._thread is not None:
            raise DashboardError("the dashboard is running already; close it before starting it again")
        try:
            self._token = load_or_create_token(self._token_path)
        except TokenError as error:
            raise DashboardError(str(error)) from None
        listener = _listener(self._host, self._port)
        self._port = int(listener.getsockname()[1])
        server = self._make_server(loopback=_is_loopback(str(listener.getsockname()[0])))
        self._server = server
        self._thread = threading.Thread(target=_serve, args=(server, listener), name="dashboard", daemon=True)
        self._thread.start()
        server.settled.wait(START_TIMEOUT_S)
        if not server.started:
            self.close()
            raise DashboardError(
                f"the dashboard on {self.url} did not start within {START_TIMEOUT_S:.0f} s; see the log"
            )
        return self.url

    @property
    def url(self) -> str:
        """Where the page is."""
        host = socket.gethostname() if self._host in _EVERYWHERE else self._host
        return f"http://[{host}]:{self._port}/" if ":" in host else f"http://{host}:{self._port}/"

    @property
    def login_url(self) -> str:
        """The page with the token in the fragment, which a browser keeps to itself; opening it signs in.

        Empty token before :meth:`start`. For the operator's eyes only: do not log it.
        """
        return f"{self.url}#token={self._token}"

    def observe(self, tick: Tick) -> None:
        """Show this tick. Called by the loop's thread; keeps references only, never blocks, works before start."""
        self._observations.observe(tick)

    def close(self) -> None:
        """Stop serving and hang up on whoever watches; waits at most 5 s. Safe to call twice."""
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT_S)
            if self._thread.is_alive():
                _logger.warning("the dashboard's thread did not end within %.0f s", STOP_TIMEOUT_S)
        self._thread = None
        self._server = None

    def _make_server(self, *, loopback: bool) -> _Server:
        name = socket.gethostname().lower()
        names = {"localhost"} if loopback else {"localhost", name, name.partition(".")[0] + ".local"}
        pages = Pages(
            title=self._title,
            axes=self._axes,
            period_s=self._period_s,
            operator=self._operator,
            observations=self._observations,
            engines=self._engines,
            access=Access(self._token, self._clock),
            clock=self._clock,
            open_to_viewers=loopback,
            names=frozenset(names),
            # Cookies ignore ports, so two dashboards on one machine need two names.
            cookie=f"latentloop-{self._port}",
        )
        return _Server(
            uvicorn.Config(
                pages.asgi,
                loop="asyncio",
                http="h11",
                ws="websockets-sansio",
                ws_max_size=1024,
                # Compressing JPEG again costs ten times the whole server.
                ws_per_message_deflate=False,
                lifespan="on",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=2,
            )
        )


def _serve(server: _Server, listener: socket.socket) -> None:
    # uvicorn installs signal handlers only in the main thread, so none are installed here.
    try:
        asyncio.run(server.serve(sockets=[listener]))
    except BaseException:
        _logger.exception("the dashboard's server ended with an error")
    finally:
        listener.close()
        server.settled.set()


def _listener(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise DashboardError(f"{port} is not a port; choose one from 1024 to 65535, or 0 for any free one")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError):
        raise DashboardError(
            f"the dashboard's host {host!r} is not valid; use 127.0.0.1 or an address of this machine"
        ) from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise DashboardError(_why_not(host, port, error)) from None
    return listener


def _why_not(host: str, port: int, error: OSError) -> str:
    code = error.errno
    if code == errno.EADDRINUSE:
        return f"port {port} on {host} is in use by another program; stop that program or choose another port"
    if code == errno.EACCES:
        return f"this user may not serve on port {port}; choose a port of 1024 or above"
    if code == errno.EADDRNOTAVAIL:
        return (
            f"this machine has no address {host} to serve the dashboard on; use 127.0.0.1 or one of its own addresses"
        )
    return f"the dashboard cannot be served on {host}:{port} ({error}); choose another address or port"


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
