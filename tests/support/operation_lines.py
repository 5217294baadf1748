"""Finds the line of code that brought an operation into the graph of a case's preprocessing."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow_transform import impl_helper

ROOT = Path(__file__).parents[2]


def find_operation_lines(
    preprocessing_fn: Callable[[dict[str, Any]], dict[str, Any]],
    raw: Mapping[str, Any],
    operations: Mapping[str, str],
) -> list[str]:
    """Trace the function and return ``type at file:line`` for each operation.

    Args:
        preprocessing_fn: Maps raw features to transformed ones.
        raw: Feature spec of the raw features.
        operations: Types of the operations by their names in an export, which adds prefixes to the names.
    """
    with record_operations() as traced:
        impl_helper.trace_preprocessing_function(preprocessing_fn, dict(raw), use_tf_compat_v1=True)
    places = {operation.name: (operation.type, _find_place(operation)) for operation in traced}
    lines = set()
    for name, kind in operations.items():
        matches = [
            place for traced_name, (type_, place) in places.items() if type_ == kind and name.endswith(traced_name)
        ]
        lines.add(f"{kind} at {matches[0] if matches else f'{name}, which the network brings'}")
    return sorted(lines)


@contextmanager
def record_operations() -> Iterator[list[Any]]:
    """Collect every operation that is created, in the bodies of loops, too."""
    operations: list[Any] = []
    create = tf.Graph._create_op_internal

    def record(graph: tf.Graph, *args: Any, **kwargs: Any) -> Any:
        operations.append(create(graph, *args, **kwargs))
        return operations[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.Graph, "_create_op_internal", record)
        yield operations


def _find_place(operation: Any) -> str:
    """Return the innermost frame of ours in the traceback, without frames of the tests' support."""
    ours = [
        frame
        for frame in operation.traceback
        if frame.filename.startswith(f"{ROOT}/") and ".venv" not in frame.filename and frame.filename != __file__
    ]
    return f"{Path(ours[-1].filename).relative_to(ROOT)}:{ours[-1].lineno}" if ours else "no line of this repository"
