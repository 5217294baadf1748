"""What evidence of training has to show."""

import pytest

from tour.evidence import result_types
from tour.evidence.training import distribution


def table(results, title):
    return next(one for one in results if isinstance(one, result_types.Table) and one.title.startswith(title))


def number(results, title):
    return next(one.value for one in results if isinstance(one, result_types.Number) and one.title.startswith(title))


def agree(results):
    """The evidence of A29; that of purchases is looked at where all evidence is computed."""
    rows = table(results, f"{distribution.STEPS} steps").rows
    assert [row[:2] for row in rows] == [("none", 1), ("mirrored", 2)]
    assert rows[0][2] == pytest.approx(rows[1][2], rel=1e-4)
    assert number(results, "Largest difference") < 2e-4


def told_apart(results):
    """The evidence of B13."""
    rows = table(results, "Processes").rows
    assert [row[0] for row in rows] == ["worker 0", "worker 1"] and rows[0][1] != rows[1][1]
    assert '"task": {"type": "worker", "index": 1}' in rows[1][2]
    assert table(results, "Result of the training").rows[0][0] == 2
