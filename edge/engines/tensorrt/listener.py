"""What TensorRT complains of, kept for error messages; its own logger would print it between the program's output."""

from __future__ import annotations

from typing import Any


def listener(trt: Any) -> Any:
    """A logger that keeps errors, newest last, and lets the rest pass. It must outlive whatever is made with it."""

    class Listener(trt.ILogger):  # type: ignore[misc]  # the base is known at run time only
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.said: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.said = [*self.said[-9:], " ".join(message.split())]

    return Listener()


def complaints(kept: Any) -> str:
    """What a listener has heard so far, as one line."""
    return " / ".join(kept.said) or "it gave no reason"
