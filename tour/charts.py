"""Small charts as inline SVG, which use the colours of the page and keep text as text.

A chart has its own coordinate system and scales with its container. The page's content security policy allows no inline
styles, so a chart uses classes; ``s0`` to ``s9`` are the colours of its series.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 640.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 14.0, 12.0, 40.0
LEGEND_LINE, LEGEND_LETTERS = 18.0, 92  # height of a line of the legend, and the letters that fit into one
COLOURS = 10
NAMESPACE = "http://www.w3.org/2000/svg"
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Frame:
    """Plot area: maps data units to drawing units.

    Attributes:
        x: Minimum and maximum of the horizontal axis.
        y: Minimum and maximum of the vertical axis.
        height, width: Size of the chart in drawing units.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    height: float = HEIGHT
    width: float = WIDTH

    def x_position(self, value: float) -> float:
        """Horizontal position of a value, in drawing units."""
        low, high = self.x
        return LEFT + (value - low) / ((high - low) or 1.0) * (self.width - LEFT - RIGHT)

    def y_position(self, value: float) -> float:
        """Vertical position of a value, in drawing units."""
        low, high = self.y
        return TOP + (high - value) / ((high - low) or 1.0) * (self.height - TOP - BOTTOM)

    def path(self, points: Points) -> str:
        return " ".join(
            f"{'L' if n else 'M'}{self.x_position(x):.1f} {self.y_position(y):.1f}" for n, (x, y) in enumerate(points)
        )


def line_chart(
    title: str,
    series: Mapping[str, Points],
    x: str,
    y: str,
    marks: Mapping[str, tuple[float, float]] | None = None,
    frame: Frame | None = None,
    inside: str = "",
    joined: bool = True,
) -> Markup:
    """Line chart of named series, with optional marked points.

    Args:
        title: Text alternative for screen readers.
        series: Points ``(x, y)`` by name; non-finite points are left out.
        x, y: Labels of the axes.
        marks: Marked points by name.
        frame: Plot area; by default around the points.
        inside: Additional SVG.
        joined: Whether lines join the points; False for a scatter plot.
    """
    finite = {name: [point for point in points if all(map(math.isfinite, point))] for name, points in series.items()}
    frame = frame or fit_frame([point for points in finite.values() for point in points])
    parts = [axes(frame, x, y)]
    for number, (name, points) in enumerate(finite.items()):
        if joined and len(points) > 1:
            element = Markup('<path class="line s{}" d="{}"><title>{}</title></path>')
            parts.append(element.format(number % COLOURS, frame.path(points), name))
        else:
            element = Markup('<circle class="bar s{}" cx="{:.1f}" cy="{:.1f}" r="3"><title>{}</title></circle>')
            parts += [
                element.format(number % COLOURS, frame.x_position(x), frame.y_position(y), name) for x, y in points
            ]
    for name, (at, value) in (marks or {}).items():
        parts.append(mark_point(frame, at, value, name))
    lines = wrap_legend(list(finite)) if len(finite) > 1 else []
    parts += [draw_legend(line, frame.height + LEGEND_LINE * number) for number, line in enumerate(lines, 1)]
    return svg(
        title, frame.width, frame.height + LEGEND_LINE * len(lines) + (6 if lines else 0), *parts, Markup(inside)
    )


def mark_point(frame: Frame, x: float, y: float, name: str) -> Markup:
    """A marked point with its name, on the side that has room."""
    left, top = frame.x_position(x), frame.y_position(y)
    side = ("end", -9) if left > frame.width * 0.62 else ("start", 9)
    point = Markup('<circle class="mark" cx="{:.1f}" cy="{:.1f}" r="4.5"/>').format(left, top)
    return point + text("name", left + side[1], max(top - 8, 12), side[0], name)


def text(kind: str, x: float, y: float, anchor: str, words: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(kind, x, y, anchor, words)


def bar_chart(title: str, series: Mapping[str, Sequence[float]], labels: Sequence[str], height: float = 84.0) -> Markup:
    """Bar chart without axes, for many small charts side by side.

    Args:
        title: Text alternative for screen readers.
        series: Heights of the bars by series, one per group.
        labels: Name of each group.
        height: Height of the chart in drawing units.
    """
    top = max((value for values in series.values() for value in values), default=0.0) or 1.0
    count, names = max(map(len, series.values()), default=0), list(series)
    step = 240.0 / max(count, 1)
    bar_width = step * 0.9 / max(len(names), 1)
    parts, tooltip = [], "<title>{}, {}: {:.3g}</title></rect>"
    for number, name in enumerate(names):
        for at, value in enumerate(series[name]):
            bar_height = max(value / top * (height - 4), 0.6 if value else 0.0)
            element = '<rect class="bar s{}" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}">' + tooltip
            box = (at * step + number * bar_width, height - bar_height, max(bar_width - 0.3, 0.4), bar_height)
            parts.append(Markup(element).format(number % COLOURS, *box, name, labels[at], value))
    chart = '<svg class="chart bars" viewBox="0 0 240 {:.0f}" role="img" aria-label="{}" preserveAspectRatio="none">{}</svg>'
    return Markup(chart).format(height, title, Markup("").join(parts))


def svg(title: str, width: float, height: float, *parts: Markup) -> Markup:
    """Join the parts into one chart, which scales with its container."""
    chart = '<svg xmlns="{}" class="chart{}" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>'
    narrow = " narrow" if width < WIDTH else ""
    return Markup(chart).format(NAMESPACE, narrow, width, height, title, Markup("").join(parts))


def wrap_legend(names: Sequence[str]) -> list[list[tuple[int, str]]]:
    """Split the names of the series, with their numbers, into lines of about ``LEGEND_LETTERS``."""
    lines: list[list[tuple[int, str]]] = [[]]
    for number, name in enumerate(names):
        if lines[-1] and sum(len(other) + 4 for _, other in lines[-1]) + len(name) > LEGEND_LETTERS:
            lines.append([])
        lines[-1].append((number, name))
    return lines


def draw_legend(line: Sequence[tuple[int, str]], y: float) -> Markup:
    """One line of a legend: the colour and the name of each series."""
    entry = Markup('<tspan class="bar s{}" dx="{}">■</tspan><tspan dx="5">{}</tspan>')
    entries = Markup("").join(
        entry.format(number % COLOURS, 14 if at else 0, name) for at, (number, name) in enumerate(line)
    )
    return Markup('<text class="label" x="{}" y="{:.1f}">{}</text>').format(LEFT, y, entries)


def axes(frame: Frame, x: str, y: str) -> Markup:
    """Grid lines, tick labels and axis labels."""
    floor, parts = frame.height - BOTTOM, []
    for value in ticks(*frame.y):
        line, at = Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'), frame.y_position(value)
        parts += [
            line.format(LEFT, frame.width - RIGHT, at, at),
            text("tick", LEFT - 7, at + 4, "end", format_number(value)),
        ]
    count = 6 if frame.width == WIDTH else 4
    parts += [
        text("tick", frame.x_position(value), floor + 16, "middle", format_number(value))
        for value in ticks(*frame.x, count)
    ]
    parts.append(text("label", (LEFT + frame.width - RIGHT) / 2, frame.height - 5, "middle", x))
    rotated = '<text class="label" transform="translate(12 {:.0f}) rotate(-90)" text-anchor="middle">{}</text>'
    parts.append(Markup(rotated).format((TOP + floor) / 2, y))
    return Markup("").join(parts)


def fit_frame(points: Points, height: float = HEIGHT) -> Frame:
    """A plot area around the points, with a margin above and below."""
    if not points:
        return Frame((0.0, 1.0), (0.0, 1.0), height)
    (left, right), (low, high) = ((min(axis), max(axis)) for axis in zip(*points, strict=True))
    margin = (high - low) * 0.08 or abs(high) * 0.1 or 0.5
    return Frame((left, right if right > left else left + 1), (low - margin, high + margin), height)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About ``count`` round numbers between two ends."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * unit for unit in (1, 2, 2.5, 5, 10) if power * unit >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def format_number(value: float) -> str:
    """Format a number briefly, for an axis."""
    if value and (abs(value) >= 1e6 or abs(value) < 1e-3):
        mantissa, _, power = f"{value:.2e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"
    return f"{value:,.10g}" if abs(value) >= 1000 else f"{value:.4g}"
