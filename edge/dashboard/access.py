"""Who is an operator: the token on disk, the sessions it opens, and how often it may be guessed."""

from __future__ import annotations

import hmac
import os
import secrets
from collections import OrderedDict, deque
from pathlib import Path

from edge.clock import NS_PER_S, Clock

TOKEN_BYTES = 32
SESSION_NS = 12 * 3600 * NS_PER_S
MAX_SESSIONS = 64
MAX_FAILURES = 5
FAILURE_WINDOW_NS = 60 * NS_PER_S
MAX_ADDRESSES = 256


class TokenError(Exception):
    """The token file cannot be used; the message says which file, why and what to do."""


def load_or_create_token(path: Path) -> str:
    """The operator token in ``path``, created with 256 random bits and mode 0600 if the file is absent.

    Raises TokenError if the file cannot be read or written, is readable by others, or holds no token.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
        else:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(TOKEN_BYTES) + "\n")
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise TokenError(
            f"the operator token file {path} cannot be used ({error.strerror}); choose a folder this user may write to"
        ) from None
    if mode & 0o077:
        raise TokenError(f"the operator token file {path} can be read by other users; run: chmod 600 {path}")
    if len(text) < 32 or not text.isascii() or not text.isprintable():
        raise TokenError(f"the operator token file {path} holds no usable token; delete it and start again")
    return text


class Access:
    """Checks tokens and sessions. Used from the dashboard's event loop only."""

    def __init__(self, token: str, clock: Clock) -> None:
        self._token = token.encode()
        self._clock = clock
        self._sessions: OrderedDict[str, int] = OrderedDict()
        self._failures: OrderedDict[str, deque[int]] = OrderedDict()

    def retry_after_s(self, address: str) -> int:
        """Seconds this address must wait before it may try a token again; 0 when it may try now."""
        failures = self._failures.get(address)
        if failures is None:
            return 0
        now_ns = self._clock.now_ns()
        while failures and failures[0] <= now_ns - FAILURE_WINDOW_NS:
            failures.popleft()
        if len(failures) < MAX_FAILURES:
            return 0
        return -(-(failures[0] + FAILURE_WINDOW_NS - now_ns) // NS_PER_S)

    def token_matches(self, token: str, address: str) -> bool:
        """Whether this is the token; a wrong one is counted against the address. Ask retry_after_s first."""
        if hmac.compare_digest(token.encode(), self._token):
            self._failures.pop(address, None)
            return True
        failures = self._failures.setdefault(address, deque(maxlen=MAX_FAILURES))
        failures.append(self._clock.now_ns())
        self._failures.move_to_end(address)
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)
        return False

    def open_session(self) -> str:
        """A new session's secret, for a cookie. It ends after 12 hours, on close_session, or with this process."""
        session = secrets.token_urlsafe(TOKEN_BYTES)
        self._sessions[session] = self._clock.now_ns() + SESSION_NS
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return session

    def session_valid(self, session: str) -> bool:
        """Whether this session was opened here and has not ended."""
        # A dictionary look-up of 256 random bits leaks no useful timing; the token itself is compared in constant time.
        ends_ns = self._sessions.get(session)
        if ends_ns is None:
            return False
        if self._clock.now_ns() < ends_ns:
            return True
        del self._sessions[session]
        return False

    def close_session(self, session: str) -> None:
        """Ends a session; unknown ones are ignored."""
        self._sessions.pop(session, None)
