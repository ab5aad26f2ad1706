"""Frames that must be answered: repeated until they are, and an answer that comes late still counts."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from firmware_bridge.messages import Ack, Message
from firmware_bridge.round_trip import RoundTrip

TRIES = 5


@dataclass(slots=True)
class Request:
    """One question. code: of the answer, None while there is none. done: answered, given up or withdrawn."""

    message: Message
    seq: int
    sent_ns: int
    repeat_ns: int
    tries: int = 1
    code: int | None = None
    done: threading.Event = field(default_factory=threading.Event)


class Requests:
    """Those in flight. Not thread-safe, but for ``Request.done``."""

    def __init__(self, round_trip: RoundTrip) -> None:
        self._round_trip = round_trip
        self._waiting: list[Request] = []

    def add(self, message: Message, seq: int, now_ns: int) -> Request:
        request = Request(message, seq, now_ns, now_ns + self._round_trip.timeout_ns)
        self._waiting.append(request)
        return request

    def answered(self, ack: Ack, now_ns: int) -> Request | None:
        """The question that this answers; None if it answers none, as the second answer to a repeated question."""
        for request in self._waiting:
            if (request.seq, request.message.TYPE) == (ack.answered_seq, ack.answered_type):
                self._waiting.remove(request)
                if request.tries == 1:
                    self._round_trip.measured(now_ns - request.sent_ns)
                request.code = ack.code
                request.done.set()
                return request
        return None

    def due(self, now_ns: int) -> list[Request]:
        """Those to be sent again now, with the same seq; after ``TRIES`` they are given up."""
        late = [request for request in self._waiting if now_ns >= request.repeat_ns]
        for request in late:
            self._round_trip.expired()
            request.tries += 1
            request.repeat_ns = now_ns + self._round_trip.timeout_ns
            if request.tries > TRIES:
                self._waiting.remove(request)
                request.done.set()
        return [request for request in late if request.tries <= TRIES]

    def withdraw(self, kind: type[Message] = Message) -> None:
        """Those of a kind are not repeated any more."""
        for request in [request for request in self._waiting if isinstance(request.message, kind)]:
            self._waiting.remove(request)
            request.done.set()
