"""Evidence as SVG figures, for results that are better seen than read."""

import io
from collections.abc import Mapping
from functools import singledispatch
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from tour.evidence.result_types import Graph, Matrix, Result, Series

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "showcase",
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "figure.constrained_layout.use": True,
}
WIDTH, HEIGHT = 7.0, 3.2
CELLS = 12  # largest number of rows or columns of a matrix whose cells show their values
STATES = {"done": "#d7ecdf", "cached": "#dbe8f5", "ran": "#d7ecdf"}
BOX = {"boxstyle": "round,pad=0.4", "edgecolor": "#8a97a5"}


@singledispatch
def svg(result: Result) -> str:
    """A figure of a result; empty for kinds that are text or images."""
    return ""


@svg.register
def _(result: Series) -> str:
    with rc_context(STYLE):
        figure, axes = _new_figure(WIDTH, HEIGHT)
        for name, points in result.lines.items():
            x, y = [point[0] for point in points], [point[1] for point in points]
            axes.plot(x, y, "-" if result.joined and len(points) > 1 else "o", markersize=3, label=name)
        for name, mark in result.marks.items():
            axes.plot([mark[0]], [mark[1]], "k.", markersize=9)
            axes.annotate(name, mark, xytext=(5, 5), textcoords="offset points", fontsize=8)
        axes.set(xlabel=result.x, ylabel=result.y)
        if result.lines:
            axes.legend(frameon=False, fontsize=8)
        return _to_svg(figure)


@svg.register
def _(result: Matrix) -> str:
    with rc_context(STYLE | {"axes.grid": False}):
        figure, axes = _new_figure(WIDTH, max(HEIGHT, 0.35 * len(result.rows)))
        axes.imshow(result.values, cmap="Blues", aspect="auto")
        axes.set_xticks(range(len(result.columns)), result.columns, rotation=45, ha="right")
        axes.set_yticks(range(len(result.rows)), result.rows)
        axes.set(xlabel=result.column_label, ylabel=result.row_label)
        most = max((value for row in result.values for value in row), default=0.0)
        if max(len(result.rows), len(result.columns)) <= CELLS:
            for y, row in enumerate(result.values):
                for x, value in enumerate(row):
                    axes.text(
                        x, y, f"{value:g}", ha="center", va="center", fontsize=8, color="w" if value > most / 2 else "k"
                    )
        return _to_svg(figure)


@svg.register
def _(result: Graph) -> str:
    places = layer_nodes(result)
    across, down = (max((place[axis] for place in places.values()), default=0.0) for axis in (0, 1))
    with rc_context(STYLE | {"axes.grid": False}):
        figure, axes = _new_figure(max(WIDTH, 1.6 * across), max(HEIGHT, 0.6 * down))
        axes.set(xlim=(-0.6, across + 0.6), ylim=(down + 0.6, -0.6))
        axes.axis("off")
        for source, target in result.edges:
            axes.annotate("", places[target], places[source], arrowprops={"arrowstyle": "->", "color": "#8a97a5"})
        for node in result.nodes:
            colour = {"facecolor": STATES.get(node.state, "#f3f5f7")}
            axes.text(*places[node.name], node.name, ha="center", va="center", fontsize=8, bbox=BOX | colour)
        return _to_svg(figure)


def layer_nodes(graph: Graph) -> Mapping[str, tuple[float, int]]:
    """Horizontal position and row of each node: below all its predecessors; rows are centred, in the order of the nodes."""
    row = {node.name: 0 for node in graph.nodes}
    for _ in graph.nodes:  # each pass settles at least one more node of the longest path
        for source, target in graph.edges:
            row[target] = min(max(row[target], row[source] + 1), len(row) - 1)
    rows = [[node.name for node in graph.nodes if row[node.name] == level] for level in sorted(set(row.values()))]
    widest = max(map(len, rows), default=0)
    return {name: (x + (widest - len(names)) / 2, y) for y, names in enumerate(rows) for x, name in enumerate(names)}


def _new_figure(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height))  # not by pyplot, which keeps a reference to every figure
    return figure, figure.add_subplot()


def _to_svg(figure: Figure) -> str:
    """The SVG element, for embedding in a page; deterministic for the same figure."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()[out.getvalue().index("<svg") :]
