"""What the processor calls itself: figures and choices that were measured belong to it."""

from __future__ import annotations

import platform


def cpu_name() -> str:
    """``"AMD EPYC, x86_64"``: by the kernel, or as Python knows it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return f"{names[0] if names else platform.processor() or 'unknown CPU'}, {platform.machine()}"
