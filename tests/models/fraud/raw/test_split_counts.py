"""Sizes of splits, and messages for splits that cannot be used."""

from datetime import datetime, timedelta

import pyarrow as pa
import pytest

from models.data.data_report import SplitCount
from models.fraud.raw.split_counts import NEVER, count_labels, count_splits, describe_gaps, find_faults

START = datetime(2026, 3, 1)
DAY = (START - datetime(1970, 1, 1)).days
SPLITS = {"train": range(DAY + 1, DAY + 3), "valid": range(DAY + 3, DAY + 4), "eval": range(DAY + 5, DAY + 7)}


def test_labels_count_from_the_day_that_begins_with_them() -> None:
    midnight = timedelta(days=2)
    table = pa.table(
        {
            "event_time": pa.array([START] * 4, pa.timestamp("us")),
            "is_fraud": pa.array([1, 0, 0, None], pa.int8()),
            "label_time": pa.array(
                [START + midnight, START + midnight + timedelta(microseconds=1), None, None], pa.timestamp("us")
            ),
        }
    )
    assert count_labels(table) == {
        (DAY, 1, DAY + 2): 1,
        (DAY, 0, DAY + 3): 1,
        (DAY, 0, NEVER): 1,
        (DAY, -1, NEVER): 1,
    }
    assert count_labels(table.slice(0, 0)) == {}


def test_only_labels_that_arrive_in_time_count_for_a_split() -> None:
    counts = {
        (DAY, 0, DAY + 1): 5,  # warm-up
        (DAY + 1, 0, DAY + 5): 20,  # train: known when eval begins
        (DAY + 2, 1, DAY + 5): 3,
        (DAY + 2, 1, DAY + 6): 2,  # known too late
        (DAY + 4, 1, DAY + 5): 4,  # label delay
        (DAY + 6, 1, DAY + 8): 7,  # eval: known when the window ends
        (DAY + 6, -1, NEVER): 1,
        (DAY + 7, -1, NEVER): 6,
    }
    sizes = count_splits(counts, SPLITS, DAY, DAY + 7)
    assert [(name, size.rows) for name, size in sizes.items()] == [
        ("warm-up", 5),
        ("train", 23),
        ("valid", 0),
        ("label delay before eval", 4),
        ("eval", 7),
        ("label delay after eval", 6),
    ]
    assert sizes["train"].labels == {"fraud": 3, "honest": 20}
    assert sizes["eval"].period == ("2026-03-06", "2026-03-07")
    assert describe_gaps(counts, SPLITS, sizes) == [
        "purchases of train, valid and eval without a label in time, used only as history: 3",
        "days of train, valid and eval without purchases: 2026-03-04, 2026-03-06",
    ]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            {"fraud": 0, "honest": 500},
            "no fraud in eval: 2 days from 2026-03-06 with 500 labelled purchases; give more",
        ),
        ({"fraud": 500, "honest": 0}, "no honest purchase in eval: 2 days"),
        ({"fraud": 4, "honest": 5}, "eval has fewer than 10 purchases: 2 days from 2026-03-06 with 9 labelled"),
        ({"fraud": 0, "honest": 0}, "eval has fewer than 10 purchases"),
    ],
)
def test_a_split_without_a_label_or_with_too_few_rows_is_refused(labels: dict[str, int], message: str) -> None:
    fine = SplitCount(rows=10, labels={"fraud": 1, "honest": 9}, period=("2026-03-01", "2026-03-01"))
    small = SplitCount(rows=sum(labels.values()), labels=labels, period=("2026-03-06", "2026-03-07"))
    (fault,) = find_faults({"train": fine, "valid": fine, "eval": small}, SPLITS)
    assert message in fault and fault.endswith("raise eval_days.")
