"""Drawings hold what the evidence holds, and nothing that it did not mean."""

from xml.etree import ElementTree

import pytest

from tour.evidence.result_types import Graph, Image, Matrix, Node, Number, Series
from tour.figures import layered, svg

SVG = "{http://www.w3.org/2000/svg}"


def texts(drawing: str) -> str:
    return " ".join("".join(one.itertext()) for one in ElementTree.fromstring(drawing).iter(f"{SVG}text"))


def test_a_series_names_its_lines_axes_and_marks() -> None:
    drawing = svg(
        Series("t", "epoch", "loss", {"train": ((0, 1.0), (1, 0.5)), "valid": ((0, 1.1),)}, {"best": (1, 0.5)})
    )
    assert all(name in texts(drawing) for name in ("epoch", "loss", "train", "valid", "best"))


def test_a_series_without_points_is_drawn() -> None:
    assert ElementTree.fromstring(svg(Series("t", "x", "y", {"none": ()}))).tag == f"{SVG}svg"


def test_a_small_matrix_has_its_numbers_and_a_large_one_does_not() -> None:
    small = svg(Matrix("t", ("a", "b"), ("c", "d"), ((17.0, 2.0), (3.0, 4.0)), "truth", "told"))
    assert all(word in texts(small) for word in ("17", "a", "d", "truth", "told"))
    names = tuple(f"n{number}" for number in range(20))
    assert "173" not in texts(svg(Matrix("t", names, names, ((173.0,) * 20,) * 20)))


def test_names_of_the_data_are_text_and_no_markup() -> None:
    hostile = "<script>alert(1)</script>"
    for drawing in (svg(Series("t", hostile, "y", {hostile: ((0, 1), (1, 2))})), svg(Graph("t", (Node(hostile),), ()))):
        assert "<script" not in drawing and hostile in texts(drawing)


def test_a_graph_flows_downwards() -> None:
    nodes = tuple(Node(name) for name in ("end", "start", "middle", "beside"))
    graph = Graph("t", nodes, (("start", "middle"), ("middle", "end"), ("start", "end"), ("start", "beside")))
    places = layered(graph)
    assert {name: y for name, (_, y) in places.items()} == {"start": 0, "middle": 1, "beside": 1, "end": 2}
    assert len(set(places.values())) == 4 and places["start"][0] == places["end"][0] == 0.5


def test_a_circle_ends() -> None:
    assert set(layered(Graph("t", (Node("a"), Node("b")), (("a", "b"), ("b", "a"))))) == {"a", "b"}


@pytest.mark.parametrize("result", [Number("t", 1), Image("t", b"")])
def test_what_is_text_or_a_picture_is_not_drawn(result) -> None:
    assert svg(result) == ""


def test_the_same_evidence_gives_the_same_drawing() -> None:
    series = Series("t", "x", "y", {"a": ((0, 1.0), (1, 2.0))})
    assert svg(series) == svg(series)
