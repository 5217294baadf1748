"""Small drawings as SVG in the page: their colours are the page's, and their text is text.

A drawing has units of its own and grows with its place. The page's policy allows no style in the
page, so a drawing has classes; ``s0`` to ``s5`` are the colours of its series.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 640.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 14.0, 12.0, 40.0
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Frame:
    """A place to draw in: data units to drawing units.

    Attributes:
        x: Least and greatest of the horizontal axis.
        y: Least and greatest of the vertical axis.
        height, width: Of the drawing.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    height: float = HEIGHT
    width: float = WIDTH

    def across(self, value: float) -> float:
        """Where a horizontal value lies."""
        low, high = self.x
        return LEFT + (value - low) / ((high - low) or 1.0) * (self.width - LEFT - RIGHT)

    def down(self, value: float) -> float:
        """Where a vertical value lies."""
        low, high = self.y
        return TOP + (high - value) / ((high - low) or 1.0) * (self.height - TOP - BOTTOM)

    def path(self, points: Points) -> str:
        """A line through the points."""
        return " ".join(
            f"{'L' if n else 'M'}{self.across(x):.1f} {self.down(y):.1f}" for n, (x, y) in enumerate(points)
        )


def lines(
    title: str,
    series: Mapping[str, Points],
    x: str,
    y: str,
    marks: Mapping[str, tuple[float, float]] | None = None,
    frame: Frame | None = None,
    inside: str = "",
) -> Markup:
    """Named lines over two axes, with points worth naming.

    Args:
        title: What a person who cannot see the drawing is told.
        series: Points ``(x, y)`` by name; what is not finite is left out.
        x, y: Labels of the axes.
        marks: Points by name.
        frame: The axes' ends; by default those of the points.
        inside: What else is drawn, as SVG.
    """
    kept = {name: [one for one in points if all(map(math.isfinite, one))] for name, points in series.items()}
    frame = frame or framed([one for points in kept.values() for one in points])
    parts = [axes(frame, x, y)]
    for number, (name, points) in enumerate(kept.items()):
        if points:
            drawn = Markup('<path class="line s{}" d="{}"><title>{}</title></path>')
            parts.append(drawn.format(number % 6, frame.path(points), name))
    for name, (at, value) in (marks or {}).items():
        parts.append(mark(frame, at, value, name))
    key = legend(list(kept)) if len(kept) > 1 else ""
    return Markup("{}{}").format(key, svg(title, frame, *parts, Markup(inside)))


def mark(frame: Frame, x: float, y: float, name: str) -> Markup:
    """A point with its name beside it, on the side where there is room."""
    at, down = frame.across(x), frame.down(y)
    side = ("end", -9) if at > frame.width * 0.62 else ("start", 9)
    point = Markup('<circle class="mark" cx="{:.1f}" cy="{:.1f}" r="4.5"/>').format(at, down)
    return point + text("name", at + side[1], max(down - 8, 12), side[0], name)


def text(kind: str, x: float, y: float, anchor: str, words: str) -> Markup:
    """Words at a place."""
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(kind, x, y, anchor, words)


def bars(title: str, series: Mapping[str, Sequence[float]], labels: Sequence[str], height: float = 84.0) -> Markup:
    """Bars side by side, no axes: for many small drawings. Values are heights, ``labels`` say what each group is."""
    top = max((value for values in series.values() for value in values), default=0.0) or 1.0
    count, names = max(map(len, series.values()), default=0), list(series)
    step = 240.0 / max(count, 1)
    wide = step * 0.9 / max(len(names), 1)
    parts, told = [], "<title>{}, {}: {:.3g}</title></rect>"
    for number, name in enumerate(names):
        for at, value in enumerate(series[name]):
            tall = max(value / top * (height - 4), 0.6 if value else 0.0)
            drawn = '<rect class="bar s{}" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}">' + told
            place = (at * step + number * wide, height - tall, max(wide - 0.3, 0.4), tall)
            parts.append(Markup(drawn).format(number % 6, *place, name, labels[at], value))
    whole = '<svg class="chart bars" viewBox="0 0 240 {:.0f}" role="img" aria-label="{}" preserveAspectRatio="none">{}</svg>'
    return Markup(whole).format(height, title, Markup("").join(parts))


def svg(title: str, frame: Frame, *parts: Markup) -> Markup:
    """The parts as one drawing."""
    whole = '<svg class="chart{}" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>'
    kind = " narrow" if frame.width < WIDTH else ""
    return Markup(whole).format(kind, frame.width, frame.height, title, Markup("").join(parts))


def legend(names: Sequence[str]) -> Markup:
    """Which colour is which."""
    drawn = Markup('<span><i class="s{}"></i>{}</span>')
    return Markup('<p class="legend">{}</p>').format(
        Markup("").join(drawn.format(n % 6, name) for n, name in enumerate(names))
    )


def axes(frame: Frame, x: str, y: str) -> Markup:
    """Grid, numbers and labels."""
    floor, parts = frame.height - BOTTOM, []
    for value in ticks(*frame.y):
        line, at = Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'), frame.down(value)
        parts += [line.format(LEFT, frame.width - RIGHT, at, at), text("tick", LEFT - 7, at + 4, "end", said(value))]
    count = 6 if frame.width == WIDTH else 4
    parts += [text("tick", frame.across(value), floor + 16, "middle", said(value)) for value in ticks(*frame.x, count)]
    parts.append(text("label", (LEFT + frame.width - RIGHT) / 2, frame.height - 5, "middle", x))
    turned = '<text class="label" transform="translate(12 {:.0f}) rotate(-90)" text-anchor="middle">{}</text>'
    parts.append(Markup(turned).format((TOP + floor) / 2, y))
    return Markup("").join(parts)


def framed(points: Points, height: float = HEIGHT) -> Frame:
    """A frame around the points, with a little room above and below."""
    if not points:
        return Frame((0.0, 1.0), (0.0, 1.0), height)
    (left, right), (low, high) = ((min(axis), max(axis)) for axis in zip(*points, strict=True))
    room = (high - low) * 0.08 or abs(high) * 0.1 or 0.5
    return Frame((left, right if right > left else left + 1), (low - room, high + room), height)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers between two ends, about ``count`` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * unit for unit in (1, 2, 2.5, 5, 10) if power * unit >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def said(value: float) -> str:
    """A number as short as an axis wants it."""
    if value and (abs(value) >= 1e6 or abs(value) < 1e-3):
        mantissa, _, power = f"{value:.2e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"
    return f"{value:,.10g}" if abs(value) >= 1000 else f"{value:.4g}"
