"""Line charts as SVG, both axes logarithmic; the same values make the same bytes.

A drawing library would be the largest thing among the development dependencies, for four charts;
and its next release would draw them a little differently.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

__all__ = ["Chart", "draw"]

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 76, 20, 48, 56
COLOURS = ("#1f5fa8", "#c2571a", "#2e7d4f", "#8a3fa0", "#7a7a7a", "#b8860b", "#b02a4a", "#1a8c94")
LINE_HEIGHT = 17


class Chart(NamedTuple):
    """What a chart is about."""

    title: str
    x: str
    y: str


class _Axis(NamedTuple):
    """A logarithmic axis: values from `low` to `high` lie between two places in the picture."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        share = math.log10(value / self.low) / math.log10(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        decades = range(round(math.log10(self.low)), round(math.log10(self.high)) + 1)
        return [10.0**decade for decade in decades]


def draw(chart: Chart, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """A picture of each series' points, joined by lines, with a legend.

    Args:
        chart: title and axes.
        series: by name; x and y are above 0.
    """
    points = [point for each in series.values() for point in each]
    bottom = HEIGHT + LINE_HEIGHT * (len(series) + 1)
    x = _axis([at for at, _ in points], LEFT, WIDTH - RIGHT)
    y = _axis([at for _, at in points], HEIGHT - BOTTOM, TOP)
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom}" '
        f'width="{WIDTH}" height="{bottom}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{bottom}" fill="#ffffff"/>',
        _text(WIDTH / 2, 26, chart.title, "middle", size=16),
        *_grid(x, y),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, chart.x, "middle"),
        f'<g transform="rotate(-90 18 {HEIGHT / 2:g})">'
        f"{_text(18, HEIGHT / 2, chart.y, 'middle')}</g>",
    ]
    for number, (name, values) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        dashed = ' stroke-dasharray="6 4"' if number >= len(COLOURS) else ""
        places = [(x.place(at), y.place(value)) for at, value in sorted(values)]
        line = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
        drawn.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>'
        )
        drawn += [
            f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3.5" fill="{colour}"/>'
            for across, down in places
        ]
        at = HEIGHT + LINE_HEIGHT * (number + 1)
        drawn.append(f'<rect x="{LEFT}" y="{at - 9}" width="18" height="4" fill="{colour}"/>')
        drawn.append(_text(LEFT + 26, at - 3, name, "start"))
    return "\n".join([*drawn, "</svg>", ""])


def _axis(values: Sequence[float], start: float, end: float) -> _Axis:
    """From the power of ten below the least value to the one above the largest."""
    low = math.floor(math.log10(min(values)))
    high = max(math.ceil(math.log10(max(values))), low + 1)
    return _Axis(10.0**low, 10.0**high, start, end)


def _grid(x: _Axis, y: _Axis) -> list[str]:
    drawn = []
    for value in x.ticks():
        at = x.place(value)
        drawn.append(_line(at, TOP, at, HEIGHT - BOTTOM))
        drawn.append(_text(at, HEIGHT - BOTTOM + 18, f"{value:,g}", "middle"))
    for value in y.ticks():
        at = y.place(value)
        drawn.append(_line(LEFT, at, WIDTH - RIGHT, at))
        drawn.append(_text(LEFT - 8, at + 4, f"{value:,g}", "end"))
    return drawn


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#dddddd"/>'


def _text(x: float, y: float, text: str, anchor: str, size: int = 13) -> str:
    said = escape(text)
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{said}</text>'
