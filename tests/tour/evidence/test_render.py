"""Evidence of every kind, shown on a terminal and as JSON."""

import json
import types

import numpy as np
import pytest
from rich.console import Console

from tour.evidence import kinds, render


@pytest.mark.parametrize(
    "result",
    [
        kinds.Number("n", 1.5, "s"),
        kinds.Table("t", ("a", "b"), ((1, "[x]"), (True, None))),
        kinds.Series("s", "x", "y", {"a": ((0.0, 1.0), (1.0, 2.0))}, {"m": (0.0, 1.0)}),
        kinds.Series("p", "x", "y", {"a": ((0.0, 1.0),), "b": ()}, joined=False),
        kinds.Series("e", "x", "y", {}),
        kinds.Matrix("m", ("a",), ("b",), ((1,),)),
        kinds.NotHere("h", "Not now."),
        kinds.Graph("g", (kinds.Node("a"), kinds.Node("b", "op", "done")), (("a", "b"),)),
        kinds.Image("i", b""),
    ],
    ids=lambda result: result.title,
)
def test_every_kind_is_shown_on_a_terminal_and_as_json(result: kinds.Result) -> None:
    from tour.evidence.image import png

    result = kinds.Image("i", png(np.ones((4, 4, 1)))) if isinstance(result, kinds.Image) else result
    console = Console(record=True, width=100, file=types.SimpleNamespace(write=len, flush=lambda: None))
    console.print(render.to_rich(result))
    assert result.title in console.export_text()
    assert json.loads(json.dumps(render.to_json(result)))["kind"] == type(result).__name__


def test_what_is_no_evidence_is_refused() -> None:
    with pytest.raises(TypeError, match="str is no kind of evidence"):
        render.to_rich("x")
