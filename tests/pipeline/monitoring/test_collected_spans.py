"""Served rows written as raw spans: readable like the source, with the labels that have arrived."""

import io
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.served_rows import served_purchase

from models.fraud import collected as purchases_collected
from models.fraud import purchases
from models.image import collected as pictures_collected
from models.image.raw import readers


@pytest.mark.parametrize("columns", ["", "amount=AMT,customer_id=CARD"])
@pytest.mark.parametrize("words", [("", ""), ("yes", "no"), ("0", "1")])
def test_collected_purchases_are_read_like_the_source(tmp_path: Path, columns: str, words: tuple[str, str]) -> None:
    settings = {
        "columns": columns,
        "label_delay_days": 7,
        "positive_label": words[0],
        "negative_label": words[1],
    }
    unlabelled = served_purchase(2, label=None, known=None)
    unlabelled["features"] = {name: value for name, value in unlabelled["features"].items() if name != "category"}
    assert purchases_collected.write(tmp_path / "span-090", [served_purchase(1, label=1), unlabelled], settings) == 2
    first, second = purchases.read(tmp_path / "span-090", settings).to_pylist()
    assert (first["transaction_id"], first["amount"], first["is_fraud"], first["category"]) == (
        "t1",
        10.07,
        1,
        "travel",
    )
    assert first["event_time"] == datetime(2026, 3, 23, 0, 0, 0, 1) and first["label_time"].microsecond == 9
    assert second["is_fraud"] is None and second["label_time"] is None and second["category"] is None


def test_pictures_are_written_by_class_without_unlabelled_ones(tmp_path: Path) -> None:
    def row(key: str, label: str | None, grey: int) -> dict:
        stream = io.BytesIO()
        Image.fromarray(np.full((4, 4), grey, np.uint8)).save(stream, "PNG")
        return {"key": key, "features": {"image": [stream.getvalue()]}, "label": label}

    rows = [row("one", "a", 10), row("../two", "b", 200), row("three", None, 5), row("four", "zebra", 5)]
    assert pictures_collected.write(tmp_path / "span-001", rows, {"classes": ["a", "b"]}) == 2
    read_rows = [picture for batch in readers.read(tmp_path / "span-001") for picture in batch.to_pylist()]
    assert {picture["label"]: round(picture["brightness"] * 255) for picture in read_rows} == {"a": 10, "b": 200}
    assert len({picture["key"] for picture in read_rows}) == 2
