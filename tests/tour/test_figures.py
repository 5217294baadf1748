"""Figures contain the text of the evidence, escaped."""

from xml.etree import ElementTree

import pytest

from tour.evidence.result_types import Graph, Image, Matrix, Node, Number, Series
from tour.figures import layer_nodes, svg

SVG = "{http://www.w3.org/2000/svg}"


def texts(drawing: str) -> str:
    return " ".join("".join(element.itertext()) for element in ElementTree.fromstring(drawing).iter(f"{SVG}text"))


def test_series_shows_the_names_of_lines_axes_and_marks() -> None:
    drawing = svg(
        Series("t", "epoch", "loss", {"train": ((0, 1.0), (1, 0.5)), "valid": ((0, 1.1),)}, {"best": (1, 0.5)})
    )
    assert all(name in texts(drawing) for name in ("epoch", "loss", "train", "valid", "best"))


def test_series_without_points_is_an_svg() -> None:
    assert ElementTree.fromstring(svg(Series("t", "x", "y", {"none": ()}))).tag == f"{SVG}svg"


def test_names_are_escaped() -> None:
    hostile = "<script>alert(1)</script>"
    for drawing in (svg(Series("t", hostile, "y", {hostile: ((0, 1), (1, 2))})), svg(Graph("t", (Node(hostile),), ()))):
        assert "<script" not in drawing and hostile in texts(drawing)


def test_nodes_are_below_their_predecessors() -> None:
    nodes = tuple(Node(name) for name in ("end", "start", "middle", "beside"))
    graph = Graph("t", nodes, (("start", "middle"), ("middle", "end"), ("start", "end"), ("start", "beside")))
    places = layer_nodes(graph)
    assert {name: y for name, (_, y) in places.items()} == {"start": 0, "middle": 1, "beside": 1, "end": 2}
    assert len(set(places.values())) == 4 and places["start"][0] == places["end"][0] == 0.5


def test_layout_of_a_cycle_terminates() -> None:
    assert set(layer_nodes(Graph("t", (Node("a"), Node("b")), (("a", "b"), ("b", "a"))))) == {"a", "b"}


@pytest.mark.parametrize("result", [Number("t", 1), Image("t", b""), Matrix("t", (), (), ())])
def test_numbers_images_and_matrices_have_no_figure(result) -> None:
    assert svg(result) == ""


def test_figures_are_deterministic() -> None:
    series = Series("t", "x", "y", {"a": ((0, 1.0), (1, 2.0))})
    assert svg(series) == svg(series)
