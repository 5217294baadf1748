"""The page in headless Chromium answers the rows of the shared home's runs as evidence B27 has it do."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from support import edge_models

from components.training.edge import lite_exporter, one_row
from models.catalog import CASES
from serving.browser import chromium
from tour.evidence.context import Context
from tour.evidence.serving import edge_files


def test_programs_are_built_in_a_temporary_folder_if_the_home_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with edge_files.open_build_folder(tmp_path) as folder:
        assert folder == tmp_path / "edge"
    monkeypatch.setattr(edge_files.os, "access", lambda path, mode: path != tmp_path)
    with edge_files.open_build_folder(tmp_path) as folder:
        assert folder.is_dir() and not folder.is_relative_to(tmp_path / "edge")
    assert not folder.exists() and not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_page_agrees_with_the_saved_model_on_a_thousand_inputs(pushed_home: Path, case: str, tmp_path: Path) -> None:
    edge_models.needs_litert_js()
    edge_models.needs(*chromium.PROGRAMS)
    context = Context.of(pushed_home, case)
    rows, score = edge_models.load_thousand_rows(context), context.case.load("model").SCORE
    expected = lite_exporter.run_saved_model(str(context.served), rows)
    started = time.monotonic()
    outputs = edge_files.answer_in_browser(context, rows)
    difference = max(
        float(np.abs(outputs[name].reshape(values.shape) - values).max())
        for name, values in expected.items()
        if name != "decision"
    )
    print(case, "one_row.tflite in the browser against the SavedModel", difference, time.monotonic() - started)
    assert difference <= context.settings["gates"]["lite_tolerance"]
    # The chosen variant for one row differs from the SavedModel at most by its own quantisation error (in Python).
    chosen = json.loads((context.artifact("lite_model") / "lite.json").read_text())["chosen"]
    one_row.save(str(context.served), str(tmp_path / "narrow"))
    model = tmp_path / "chosen.tflite"
    int32_rows = {
        name: values.astype(np.int32) if values.dtype == np.int64 else values for name, values in rows.items()
    }
    model.write_bytes(lite_exporter.convert(str(tmp_path / "narrow"), chosen, int32_rows))
    python_outputs, _ = lite_exporter.run_variant(model.read_bytes(), rows)
    browser_scores = edge_files.answer_in_browser(context, rows, model)[score].reshape(python_outputs[score].shape)
    print(
        case,
        chosen,
        "for one row in the browser against Python",
        float(np.abs(browser_scores - python_outputs[score]).max()),
        "against the SavedModel",
        float(np.abs(browser_scores - expected[score]).max()),
        "Python against the SavedModel",
        float(np.abs(python_outputs[score] - expected[score]).max()),
    )
    assert (
        np.abs(browser_scores - expected[score]).max()
        <= 1.5 * np.abs(python_outputs[score] - expected[score]).max() + 1e-4
    )
