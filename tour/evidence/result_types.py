"""Types of evidence: plain values that a terminal, a web page and a program can each show."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Number:
    """A single quantity; ``unit`` may be empty."""

    title: str
    value: float | int | str
    unit: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of plain values under named columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Series:
    """Named sequences of points on two axes.

    Attributes:
        title: What the points show.
        x: Label of the horizontal axis.
        y: Label of the vertical axis.
        lines: Points ``(x, y)`` of each line, by the line's name.
        marks: Named points to highlight, such as the operating point.
        joined: Whether to draw lines between points; False for a scatter plot.
    """

    title: str
    x: str
    y: str
    lines: Mapping[str, tuple[tuple[float, float], ...]]
    marks: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    joined: bool = True


@dataclass(frozen=True)
class Matrix:
    """Numbers by row and column, such as a confusion matrix."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    row_label: str = ""
    column_label: str = ""


@dataclass(frozen=True)
class Image:
    """An image, as the bytes of a PNG file."""

    title: str
    png: bytes


@dataclass(frozen=True)
class Node:
    """Node of a graph: ``detail`` describes it, ``state`` is its status."""

    name: str
    detail: str = ""
    state: str = ""


@dataclass(frozen=True)
class Graph:
    """Nodes and directed edges; an edge is the names of its source and its target."""

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class NotHere:
    """Reason why this run has no such evidence, and what to do to get it."""

    title: str
    reason: str


Result = Number | Table | Series | Matrix | Image | Graph | NotHere
