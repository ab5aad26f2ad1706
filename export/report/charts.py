"""Charts as inline SVG: lines over steps, and pairs against a diagonal. Colours are classes, so that the page decides on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 430.0, 290.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 12.0, 12.0, 44.0
Pair = tuple[float, float]
Write = Callable[[float], str]


@dataclass(frozen=True)
class Line:
    """One curve. style: its class. points: (x, y), x rising."""

    name: str
    style: str
    points: Sequence[Pair]


@dataclass(frozen=True)
class _Axes:
    """Data ranges to places in the picture."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - self.x_low) / (self.x_high - self.x_low or 1.0)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - self.y_low) / (self.y_high - self.y_low or 1.0)


def line_chart(lines: Sequence[Line], *, x_label: str, y_label: str, write: Write) -> str:
    """Curves from 0 upwards, with a legend. write: a value of y for people. Non-finite points are left out."""
    lines = [Line(one.name, one.style, [(x, y) for x, y in one.points if math.isfinite(y)]) for one in lines]
    every = [point for one in lines for point in one.points]
    if not every:
        return _nothing("no finite value to draw")
    xs = [x for x, _ in every]
    marks = ticks(0.0, max(max(y for _, y in every), 1e-12))
    axes = _Axes(min(xs), max(xs), 0.0, marks[-1])
    steps = [x for x in ticks(axes.x_low, axes.x_high, 6) if x == int(x) and axes.x_low <= x <= axes.x_high] or [xs[0]]
    drawn = [_grid(axes, steps, marks, lambda x: f"{x:.0f}", write, x_label, y_label)]
    for one in lines:
        path = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in one.points)
        drawn.append(f'<polyline class="curve {one.style}" points="{path}"/>')
        drawn += [
            f'<circle class="dot {one.style}" cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="3.5">'
            f"<title>{escape(one.name)}, {escape(x_label)} {x:g}: {escape(write(y))}</title></circle>"
            for x, y in one.points
        ]
    legend = "".join(f'<li class="{one.style}">{escape(one.name)}</li>' for one in lines)
    return f'<ul class="legend">{legend}</ul>' + _svg(drawn, f"{y_label} by {x_label}")


def scatter(points: Sequence[Pair], marked: Sequence[Pair], *, x_label: str, y_label: str, names: tuple[str, str]) -> str:
    """Pairs against the diagonal on which both agree. names: of points and of marked ones, for the legend."""
    points = [pair for pair in points if all(map(math.isfinite, pair))]
    if not points:
        return _nothing("no finite value to draw")
    low = min(min(pair) for pair in points)
    high = max(max(pair) for pair in points)
    marks = ticks(low, high if high > low else low + 1.0)
    axes = _Axes(marks[0], marks[-1], marks[0], marks[-1])
    write = _plain(marks)
    drawn = [_grid(axes, marks, marks, write, write, x_label, y_label)]
    ends = [f'{n}1="{axes.x(marks[0]) if n == "x" else axes.y(marks[0]):.1f}"' for n in "xy"]
    ends += [f'{n}2="{axes.x(marks[-1]) if n == "x" else axes.y(marks[-1]):.1f}"' for n in "xy"]
    drawn.append(f'<line class="diagonal" {" ".join(ends)}/>')
    drawn += [f'<circle class="point" cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="2.6"/>' for x, y in points]
    drawn += [
        f'<circle class="pick" cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="5"><title>{x:.4g} and {y:.4g}</title></circle>'
        for x, y in marked
        if math.isfinite(x + y)
    ]
    legend = f'<ul class="legend"><li class="point">{escape(names[0])}</li><li class="pick">{escape(names[1])}</li></ul>'
    return legend + _svg(drawn, f"{y_label} against {x_label}")


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten apart) from at or below ``low`` to at or above ``high``."""
    raw = (high - low) / about
    if not raw > 0.0:
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def _plain(marks: Sequence[float]) -> Write:
    """As many digits as tell neighbouring marks apart."""
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(step)))
    return (lambda value: f"{value:.{digits}f}") if digits <= 5 else (lambda value: f"{value:.2e}")


def _grid(
    axes: _Axes, xs: Sequence[float], ys: Sequence[float], write_x: Write, write_y: Write, x_label: str, y_label: str
) -> str:
    drawn = []
    for value in ys:
        at = axes.y(value)
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        drawn.append(f'<text class="tick" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{escape(write_y(value))}</text>')
    for value in xs:
        at, bottom = axes.x(value), HEIGHT - BOTTOM
        drawn.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
        drawn.append(f'<text class="tick" x="{at:.1f}" y="{bottom + 18}" text-anchor="middle">{escape(write_x(value))}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    drawn.append(f'<text class="label" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    across = (TOP + HEIGHT - BOTTOM) / 2
    turned = f'transform="rotate(-90 13 {across})"'
    drawn.append(f'<text class="label" x="13" y="{across}" text-anchor="middle" {turned}>{escape(y_label)}</text>')
    return "".join(drawn)


def _svg(drawn: Sequence[str], title: str) -> str:
    size = f'viewBox="0 0 {WIDTH:g} {HEIGHT:g}"'
    return f'<svg class="chart" {size} role="img" aria-label="{escape(title)}">{"".join(drawn)}</svg>'


def _nothing(why: str) -> str:
    return f'<p class="hint">{escape(why)}</p>'
