"""Results of every type, and a parser of HTML tags."""

from html.parser import HTMLParser

from tour.evidence.result_types import Graph, Image, Matrix, Node, NotHere, Number, Series, Table

HOSTILE = "<img src=x onerror=alert(1)>"


RESULTS = [
    Number("count", 12345, "rows"),
    Number("equal", True),
    NotHere("TPU", HOSTILE),
    Table("rows", ("name", "value"), ((HOSTILE, 0.25), ("b", True))),
    Series("curve", "x", "y", {HOSTILE: ((0, 1.0), (1, 2.0))}),
    Matrix("confusion", ("a",), ("b",), ((3.0,),)),
    Image("picture", b"\x89PNG"),
    Graph("dag", (Node("one"), Node("two")), (("one", "two"),)),
]


class TagParser(HTMLParser):
    """Parser that collects the name and attributes of every element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.found.append((tag, dict(attributes)))
