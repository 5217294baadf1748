"""Evidence as SVG figures, for results that are better seen than read."""

from collections.abc import Mapping
from functools import singledispatch

from markupsafe import Markup

from tour import charts
from tour.evidence.result_types import Graph, Result, Series

LETTER = 7.0  # mean width of a letter of a node's name, in drawing units
BOX, GAP, LEVEL = 28.0, 18.0, 62.0  # height of a node, distance between nodes of a row, and from row to row


@singledispatch
def svg(result: Result) -> str:
    """A figure of a result; empty for kinds that are text, tables or images."""
    return ""


@svg.register
def _(result: Series) -> str:
    return charts.line_chart(result.title, result.lines, result.x, result.y, result.marks, joined=result.joined)


@svg.register
def _(result: Graph) -> str:
    width = 20 + LETTER * max((len(node.name) for node in result.nodes), default=0)
    places = {name: (x * (width + GAP) + width / 2 + 1, y * LEVEL + 1) for name, (x, y) in layer_nodes(result).items()}
    edge = Markup('<path class="edge" d="M{:.0f} {:.0f}L{:.0f} {:.0f}"/>')
    box = Markup('<g class="{}"><title>{}</title><rect x="{:.0f}" y="{:.0f}" width="{:.0f}" height="{}" rx="6"/>{}</g>')
    parts = [edge.format(places[a][0], places[a][1] + BOX, *places[b]) for a, b in result.edges]
    for node in result.nodes:
        x, y = places[node.name]
        name = charts.text("name", x, y + BOX * 0.65, "middle", node.name)
        tooltip = ": ".join(filter(None, (node.detail, node.state)))
        parts.append(box.format(node.state, tooltip, x - width / 2, y, width, BOX, name))
    right, bottom = (max((place[axis] for place in places.values()), default=0.0) for axis in (0, 1))
    size = f'width="{right + width / 2 + 2:.0f}" height="{bottom + BOX + 2:.0f}"'
    graph = Markup('<svg xmlns="{}" class="graph" {} role="img" aria-label="{}">{}</svg>')
    return graph.format(charts.NAMESPACE, Markup(size), result.title, Markup("").join(parts))


def layer_nodes(graph: Graph) -> Mapping[str, tuple[float, int]]:
    """Horizontal position and row of each node: below all its predecessors; rows are centred, in the order of the nodes."""
    row = {node.name: 0 for node in graph.nodes}
    for _ in graph.nodes:  # each pass settles at least one more node of the longest path
        for source, target in graph.edges:
            row[target] = min(max(row[target], row[source] + 1), len(row) - 1)
    rows = [[node.name for node in graph.nodes if row[node.name] == level] for level in sorted(set(row.values()))]
    widest = max(map(len, rows), default=0)
    return {name: (x + (widest - len(names)) / 2, y) for y, names in enumerate(rows) for x, name in enumerate(names)}
