"""What evidence can be: plain values, so that a terminal, a web page and a program can each show them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Number:
    """One quantity; ``unit`` may be empty."""

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
        title: What is seen.
        x: Label of the horizontal axis.
        y: Label of the vertical axis.
        lines: Points ``(x, y)`` by name.
        marks: Points worth naming, such as an operating point.
        joined: Whether points are joined; False for a scatter.
    """

    title: str
    x: str
    y: str
    lines: Mapping[str, tuple[tuple[float, float], ...]]
    marks: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    joined: bool = True


@dataclass(frozen=True)
class Matrix:
    """Numbers by row and column, such as counts of truth against prediction."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    row_label: str = ""
    column_label: str = ""


@dataclass(frozen=True)
class Image:
    """A picture as the bytes of a PNG file."""

    title: str
    png: bytes


@dataclass(frozen=True)
class Node:
    """A node of a graph; ``detail`` says what it is, ``state`` how it is."""

    name: str
    detail: str = ""
    state: str = ""


@dataclass(frozen=True)
class Graph:
    """Nodes and directed edges, each edge the names of its two nodes."""

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class NotHere:
    """Why this run has no such evidence, and where it is."""

    title: str
    reason: str


Result = Number | Table | Series | Matrix | Image | Graph | NotHere
