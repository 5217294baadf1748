"""Rendering of every type of evidence on a terminal and as JSON."""

import json
import types

import numpy as np
import pytest
from rich.console import Console

from tour.evidence import render, result_types


@pytest.mark.parametrize(
    "result",
    [
        result_types.Number("n", 1.5, "s"),
        result_types.Table("t", ("a", "b"), ((1, "[x]"), (True, None))),
        result_types.Series("s", "x", "y", {"a": ((0.0, 1.0), (1.0, 2.0))}, {"m": (0.0, 1.0)}),
        result_types.Series("p", "x", "y", {"a": ((0.0, 1.0),), "b": ()}, joined=False),
        result_types.Series("e", "x", "y", {}),
        result_types.Matrix("m", ("a",), ("b",), ((1,),)),
        result_types.NotHere("h", "Not now."),
        result_types.Graph("g", (result_types.Node("a"), result_types.Node("b", "op", "done")), (("a", "b"),)),
        result_types.Image("i", b""),
    ],
    ids=lambda result: result.title,
)
def test_every_kind_is_shown_on_a_terminal_and_as_json(result: result_types.Result) -> None:
    from tour.evidence.image_run import png

    result = result_types.Image("i", png(np.ones((4, 4, 1)))) if isinstance(result, result_types.Image) else result
    console = Console(record=True, width=100, file=types.SimpleNamespace(write=len, flush=lambda: None))
    console.print(render.to_rich(result))
    assert result.title in console.export_text()
    assert json.loads(json.dumps(render.to_json(result)))["kind"] == type(result).__name__


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="str is not a type of evidence"):
        render.to_rich("x")
