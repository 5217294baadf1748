"""Checks of the evidence on training."""

import pytest

from tour.evidence import result_types
from tour.evidence.training import distribution


def find_table(results, title):
    return next(
        result for result in results if isinstance(result, result_types.Table) and result.title.startswith(title)
    )


def find_number(results, title):
    return next(
        item.value for item in results if isinstance(item, result_types.Number) and item.title.startswith(title)
    )


def check_strategies_agree(results):
    """Check the evidence of A29; the tests of all evidence check it for the fraud case."""
    rows = find_table(results, f"{distribution.STEPS} steps").rows
    assert [row[:2] for row in rows] == [("none", 1), ("mirrored", 2)]
    assert rows[0][2] == pytest.approx(rows[1][2], rel=1e-4)
    assert find_number(results, "Largest difference") < 2e-4


def check_processes_differ(results):
    """Check the evidence of B13."""
    rows = find_table(results, "Processes").rows
    assert [row[0] for row in rows] == ["worker 0", "worker 1"] and rows[0][1] != rows[1][1]
    assert '"task": {"type": "worker", "index": 1}' in rows[1][2]
    assert find_table(results, "Result of the training").rows[0][0] == 2
