"""Starts the child process, and says in words how one ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path


def start(settings: bytes, *shared: int) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """A fresh child that has been given its settings, and the parent's end of the socket. shared: descriptors that are handed
    on, in the order in which the child wants them. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    root = str(Path(__file__).parents[2])
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    ours.send(settings)
    ours.setblocking(False)
    handed_on = (theirs.fileno(), *shared)
    command = (sys.executable, "-m", "firmware_bridge.process.child", *map(str, handed_on))
    try:
        with theirs:
            process = subprocess.Popen(command, pass_fds=handed_on, stdin=subprocess.DEVNULL, env=environment)
    except OSError:
        ours.close()
        raise
    return process, ours


def ending(process: subprocess.Popen[bytes], patience_s: float) -> str:
    """Wait for a child whose socket has closed, and kill it if it lingers. How it ended, for people."""
    try:
        code = process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
