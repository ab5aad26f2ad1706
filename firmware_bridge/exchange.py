"""Questions of which each must be answered before the next is asked: how a session begins."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from firmware_bridge import framing, messages
from firmware_bridge.controller import BridgeError
from firmware_bridge.framing import Frame
from firmware_bridge.link import Link, LinkLost
from firmware_bridge.messages import Ack, Code, Message

A = TypeVar("A")
T = TypeVar("T", bound=Message)

REPEAT_S = 0.1


class Exchange:
    """The talk on one link until a deadline, monotonic ns. where: the port, for errors. Both calls send again every 0.1 s until the
    answer comes, and raise BridgeError without one, LinkLost when the port or the session is gone."""

    def __init__(self, link: Link, where: str, deadline_ns: int) -> None:
        self.link = link
        self.where = where
        self.deadline_ns = deadline_ns

    def ask(
        self, question: Callable[[], Message], session: int, kind: type[T], fits: Callable[[T], bool]
    ) -> tuple[T, int]:
        """The fitting answer, with its arrival in monotonic ns. question: made anew for each repetition. Raises BridgeError also
        where it is refused."""

        def answer(frame: Frame, seq: int, asked: Message) -> T | None:
            if (ack := _ack_of(frame, seq, asked)) is not None and ack.code != Code.OK:
                raise self._refused(ack, asked)
            if frame.type != kind.TYPE or frame.session != session:
                return None
            try:
                found = kind.unpack(frame.payload)
            except ValueError:
                raise BridgeError(
                    f"the firmware on {self.where} answers {asked.NAME} in a form this host does not know: "
                    "flash the firmware of this release"
                ) from None
            return found if fits(found) else None

        return self._until(question, session, 0, answer)

    def order(self, message: Message, session: int) -> int:
        """Have something done that may be done twice; the code of the answer."""

        def answer(frame: Frame, seq: int, asked: Message) -> int | None:
            ack = _ack_of(frame, seq, asked)
            if ack is not None and ack.code == Code.NO_SESSION:
                raise self._refused(ack, asked)
            return None if ack is None else ack.code

        return self._until(lambda: message, session, framing.ACK_REQ, answer)[0]

    def _until(
        self,
        question: Callable[[], Message],
        session: int,
        flags: int,
        answer: Callable[[Frame, int, Message], A | None],
    ) -> tuple[A, int]:
        link = self.link
        heard_before, bytes_before = link.received, link.bytes_received
        name = "HELLO"
        while (now_ns := time.monotonic_ns()) < self.deadline_ns:
            asked = question()
            name, seq = asked.NAME, link.send(asked, session, flags)
            repeat_ns = min(self.deadline_ns, now_ns + int(REPEAT_S * 1e9))
            while (now_ns := time.monotonic_ns()) < repeat_ns:
                for frame, arrived_ns in link.receive((repeat_ns - now_ns) / 1e9):
                    found = answer(frame, seq, asked)
                    if found is not None:
                        return found, arrived_ns
        if link.received == heard_before and link.bytes_received > bytes_before:
            raise BridgeError(
                f"what talks on {self.where} is not a latentloop firmware: flash it, or check the port and its speed"
            )
        raise BridgeError(f"no answer from {self.where} to {name}: check power, cable and that the firmware is flashed")

    def _refused(self, ack: Ack, asked: Message) -> BridgeError | LinkLost:
        if ack.code == Code.BAD_VERSION:
            return BridgeError(
                f"the firmware on {self.where} does not speak protocol version {messages.VERSION}: "
                "flash the firmware of this release"
            )
        if ack.code == Code.NO_SESSION:
            return LinkLost("the device has forgotten the session")
        return BridgeError(f"the firmware on {self.where} refuses {asked.NAME} with code {ack.code}: flash this release")


def _ack_of(frame: Frame, seq: int, asked: Message) -> Ack | None:
    """The frame as the answer to this question, if it is one."""
    if frame.type != Ack.TYPE or len(frame.payload) != Ack.size(0):
        return None
    ack = Ack.unpack(frame.payload)
    return ack if (ack.answered_type, ack.answered_seq) == (asked.TYPE, seq) else None
