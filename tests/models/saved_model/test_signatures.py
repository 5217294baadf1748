"""Every signature of an export, in any process and runtime, answers as the trained model does; for every use case."""

import json
import subprocess
import sys

import numpy as np
import pytest
from support.built_case import REQUEST_ROWS, BuiltCase, build_requests, compute_answers, get_built_case, load_export
from support.command import ROOT
from support.tiny_case.case import EVERY_CASE

from components.training.edge.lite_exporter import convert, run_variant
from models.input import Transform
from models.saved_model import restore
from models.training.weight_digests import saved_weights_digest, weights_digest

pytestmark = pytest.mark.system

# One process for all cases, since most of the time goes into importing TensorFlow.
LOAD = """
import sys
from serving import session_load
folders, sys.argv[1:] = sys.argv[1:], []
for folder in folders:
    sys.argv[1:] = [open(f"{folder}/export").read(), f"{folder}/requests.npz", f"{folder}/answers.npz"]
    session_load.main()
"""


def test_all_three_signatures_answer_as_the_trained_model_does(small_run: BuiltCase) -> None:
    network = small_run.case.load("model")
    logits = small_run.fitted.model(
        {name: small_run.rows[name][:REQUEST_ROWS] for name in network.INPUTS}, training=False
    )
    expected = network.answers(logits, small_run.point, small_run.settings)
    outputs_by_signature = compute_answers(small_run, whole=False)
    assert set(outputs_by_signature) == {"serving_default", "raw", "dense"}
    for signature, outputs in outputs_by_signature.items():
        assert set(outputs) == set(expected) >= {small_run.case.score}
        for name, values in outputs.items():
            assert values.shape[0] == REQUEST_ROWS and np.isfinite(values).all()
            assert np.allclose(values, expected[name], atol=1e-5), (signature, name)
    assert (
        np.ptp(outputs_by_signature["raw"][small_run.case.score], axis=0).max() > 1e-4
    )  # not one answer for everybody


@pytest.fixture(scope="module")
def fresh_process_answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, np.ndarray]]:
    """Answers of each case's export in a fresh process, by ``signature/output``."""
    folders = {}
    for case in EVERY_CASE:
        small_run, folder = get_built_case(case, tmp_path_factory), tmp_path_factory.mktemp(f"elsewhere-{case.name}")
        flat = {
            f"{signature}/{name}": v
            for signature, inputs in build_requests(small_run).items()
            for name, v in inputs.items()
        }
        np.savez(folder / "requests.npz", **flat)
        (folder / "export").write_text(str(small_run.export))
        folders[case.name] = folder
    command = [sys.executable, "-c", LOAD, *map(str, folders.values())]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert process.returncode == 0, process.stderr[-2000:]
    return {name: dict(np.load(folder / "answers.npz")) for name, folder in folders.items()}


def test_a_fresh_process_loads_the_export_as_the_server_does_and_answers_equally(
    small_run: BuiltCase, fresh_process_answers: dict[str, dict[str, np.ndarray]]
) -> None:
    answered, expected = fresh_process_answers[small_run.case.name], compute_answers(small_run, whole=False)
    assert set(answered) == {f"{signature}/{name}" for signature, outputs in expected.items() for name in outputs}
    for key in answered:
        signature, name = key.split("/")
        assert np.allclose(answered[key], expected[signature][name], atol=1e-5), key


def test_no_signature_takes_the_label(small_run: BuiltCase) -> None:
    for signature in load_export(str(small_run.export)).signatures.values():
        assert small_run.case.label not in signature.structured_input_signature[1]


def test_float32_on_the_edge_is_within_the_cases_tolerance(small_run: BuiltCase) -> None:
    network = small_run.case.load("model")
    inputs = {name: small_run.rows[name][:200] for name in network.INPUTS}
    outputs, _ = run_variant(convert(str(small_run.export), "float32", inputs), inputs)
    expected = compute_answers(small_run)["dense"]
    assert set(outputs) == set(expected)
    worst = float(np.max(np.abs(outputs[network.SCORE] - expected[network.SCORE][:200])))
    assert worst <= small_run.settings["lite_tolerance"]


def test_the_export_carries_its_operating_point_and_settings(small_run: BuiltCase) -> None:
    facts = json.loads((small_run.export / "assets.extra" / "model.json").read_text())
    assert facts == {"operating_point": small_run.point, "settings": small_run.settings}


def test_an_export_has_the_digest_of_the_model_it_was_made_of(small_run: BuiltCase) -> None:
    assert saved_weights_digest(small_run.export) == weights_digest(small_run.fitted.model)


def test_one_flipped_bit_in_any_weight_is_another_digest(small_run: BuiltCase) -> None:
    model = small_run.fitted.model
    digest, weights = weights_digest(model), model.get_weights()
    for number in range(len(weights)):
        other = [weight.copy() for weight in weights]
        other[number].reshape(-1).view(np.uint8)[-1] ^= 1
        model.set_weights(other)
        assert weights_digest(model) != digest, model.weights[number].path
    model.set_weights(weights)
    assert weights_digest(model) == digest


def test_network_is_restored_from_its_export(small_run: BuiltCase) -> None:
    network, rows = small_run.case.load("model"), build_requests(small_run)["dense"]
    model = restore.restore_model(str(small_run.export), network, Transform(str(small_run.graph)))
    assert restore.read_settings(str(small_run.export)) == json.loads(json.dumps(small_run.settings))
    again = network.answers(model(rows, training=False), small_run.point, small_run.settings)
    for name, values in compute_answers(small_run, whole=False)["dense"].items():
        assert np.allclose(again[name], values, atol=1e-6), name
