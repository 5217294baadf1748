"""Render evidence for a terminal and as JSON."""

import base64
import dataclasses
import io
import math
from collections.abc import Mapping
from functools import singledispatch
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from tour.evidence.result_types import Graph, Image, Matrix, NotHere, Number, Result, Series, Table

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 60
HEIGHT = 16
PICTURE = 24
SHADES = " ░▒▓█"


def to_json(result: Result) -> dict[str, Any]:
    """Convert evidence to JSON values with its ``kind``; images become base64, infinities and NaN become text."""
    values = dataclasses.asdict(result)
    if isinstance(result, Image):
        values["png"] = base64.b64encode(result.png).decode()
    return {"kind": type(result).__name__, **_finite_or_text(values)}


def _finite_or_text(value: Any) -> Any:
    """Replace infinities and NaN by text, as JSON has no numbers for them."""
    if isinstance(value, Mapping):
        return {name: _finite_or_text(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite_or_text(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


@singledispatch
def to_rich(result: Result) -> RenderableType:
    """Render evidence for a terminal.

    Raises:
        TypeError: if the value is not a type of evidence.
    """
    raise TypeError(f"{type(result).__name__} is not a type of evidence.")


@to_rich.register
def _(result: Number) -> RenderableType:
    return Text.assemble((f"{result.title}: ", "bold"), (f"{_text(result.value)} {result.unit}".strip(), "cyan"))


@to_rich.register
def _(result: NotHere) -> RenderableType:
    return Text.assemble((f"{result.title}: ", "bold"), (result.reason, "yellow"))


@to_rich.register
def _(result: Table) -> RenderableType:
    table = _table(result.title, result.columns)
    for row in result.rows:
        table.add_row(*(Text(_text(value)) for value in row))
    return table


@to_rich.register
def _(result: Matrix) -> RenderableType:
    corner = f"{result.row_label} \\ {result.column_label}" if result.row_label else ""
    table = _table(result.title, (corner, *result.columns))
    for name, values in zip(result.rows, result.values, strict=True):
        table.add_row(Text(name, "bold"), *(Text(_text(value), justify="right") for value in values))
    return table


@to_rich.register
def _(result: Graph) -> RenderableType:
    table = _table(result.title, ("node", "description", "state", "inputs"))
    for node in result.nodes:
        sources = ", ".join(source for source, target in result.edges if target == node.name)
        table.add_row(*(Text(value) for value in (node.name, node.detail, node.state, sources)))
    return table


@to_rich.register
def _(result: Series) -> RenderableType:
    title = Text.assemble((result.title, "bold"), f"   {result.y} over {result.x}")
    plots = [_sparkline(name, points) for name, points in result.lines.items()] if result.joined else [_scatter(result)]
    marks = [Text(f"● {name}: {result.x} {_text(x)}, {result.y} {_text(y)}") for name, (x, y) in result.marks.items()]
    return Group(title, *plots, *marks)


@to_rich.register
def _(result: Image) -> RenderableType:
    from PIL import Image as Pillow

    picture = Pillow.open(io.BytesIO(result.png)).convert("L")
    # A character is about twice as high as it is wide, so half as many rows keep the proportions.
    picture = picture.resize((PICTURE, max(1, PICTURE * picture.height // picture.width // 2)))
    levels = picture.tobytes()
    scanlines = (levels[start : start + picture.width] for start in range(0, len(levels), picture.width))
    rows = ["".join(SHADES[level * len(SHADES) // 256] for level in line) for line in scanlines]
    return Group(Text(result.title, "bold"), Text("\n".join(rows)))


def _table(title: str, columns: tuple[str, ...]) -> RichTable:
    table = RichTable(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _sparkline(name: str, points: tuple[tuple[float, float], ...]) -> Text:
    values = [y for _, y in points][:: max(1, -(-len(points) // WIDTH))]
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    bars = "".join(BARS[int((value - low) * scale)] for value in values)
    return Text.assemble((f"{name:>12} ", ""), (bars, "cyan"), f"  {_text(low)} to {_text(high)}")


def _scatter(result: Series) -> Text:
    """Draw points on a grid of characters; a point is the first letter of its line's name."""
    points = [point for line in result.lines.values() for point in line]
    if not points:
        return Text("no points")
    (left, right), (low, high) = ((min(axis), max(axis)) for axis in zip(*points, strict=True))
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]
    for name, line in result.lines.items():
        for x, y in line:
            column = int((x - left) / ((right - left) or 1) * (WIDTH - 1))
            grid[HEIGHT - 1 - int((y - low) / ((high - low) or 1) * (HEIGHT - 1))][column] = name[0]
    return Text("\n".join("".join(row) for row in grid))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
