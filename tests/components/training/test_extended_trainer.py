"""The Trainer with a further input: its spec, the arguments of run_fn, and rows in the transform graph's order."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tfx.proto import trainer_pb2
from tfx.types import Channel, channel_utils, standard_artifacts

from components.training import extended_trainer, sequence_embedding
from models.catalog import CASES
from models.sequences.embedding import WordVectors
from pipeline import graph, stages
from pipeline.plan import Plan


def channel(kind: type, uri: Path | str = "") -> Channel:
    artifact = kind()
    artifact.uri = str(uri)
    return channel_utils.as_channel([artifact])


def node(**more: object) -> extended_trainer.Trainer:
    """A Trainer over empty artifacts."""
    return extended_trainer.Trainer(
        run_fn="models.training.entry_point.run_fn",
        custom_config={"case": "tiny", "settings": {}},
        examples=channel(standard_artifacts.Examples),
        transform_graph=channel(standard_artifacts.TransformGraph),
        train_args=trainer_pb2.TrainArgs(splits=["train"]),
        eval_args=trainer_pb2.EvalArgs(splits=["valid"]),
        **more,
    )


def test_pretrained_input_is_optional() -> None:
    with_embedding = node(pretrained=channel(sequence_embedding.Embedding))
    assert with_embedding.id == node().id == "Trainer"
    assert "pretrained" in with_embedding.inputs and "pretrained" not in node().inputs
    assert set(with_embedding.outputs) == {"model", "model_run"}
    with pytest.raises(TypeError, match="pretrained"):
        node(pretrained=channel(standard_artifacts.Model))


def set_vocabulary(monkeypatch: pytest.MonkeyPatch, words: list[bytes]) -> None:
    """Replace the transform graph by one with this vocabulary."""
    output = SimpleNamespace(vocabulary_by_name=lambda name: {"merchant_id": words}[name])
    monkeypatch.setattr(extended_trainer.tft, "TFTransformOutput", lambda path: output)


def get_fn_args(tmp_path: Path, inputs: dict) -> SimpleNamespace:
    """The arguments that the executor passes to run_fn."""
    (tmp_path / "run").mkdir()
    outputs = {
        name: [kind()]
        for name, kind in (("model", standard_artifacts.Model), ("model_run", standard_artifacts.ModelRun))
    }
    for name, (artifact,) in outputs.items():
        artifact.uri = str(tmp_path / name)
    examples = standard_artifacts.Examples()
    examples.uri, examples.split_names = str(tmp_path), '["train", "valid"]'
    inputs = {"examples": [examples], **inputs}
    properties = {
        "train_args": '{"splits": ["train"]}',
        "eval_args": '{"splits": ["valid"]}',
        "custom_config": json.dumps({"case": "tiny", "settings": {"a": 1}}),
    }
    return extended_trainer.Executor()._GetFnArgs(inputs, outputs, properties)


def test_executor_passes_the_embedding_in_the_graphs_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_vocabulary(monkeypatch, [b"b", b"new", b"a"])
    WordVectors(["a", "b"], np.array([[1, 2], [3, 4]], np.float32), {"vocabulary": "merchant_id"}).save(
        tmp_path / "learnt"
    )
    artifact, transform = sequence_embedding.Embedding(), standard_artifacts.TransformGraph()
    artifact.uri, transform.uri = str(tmp_path / "learnt"), str(tmp_path)
    config = get_fn_args(tmp_path, {"pretrained": [artifact], "transform_graph": [transform]}).custom_config
    assert config["case"] == "tiny" and config["settings"] == {"a": 1}
    assert WordVectors.load(config["pretrained"]).matrix.tolist() == [[3, 4], [2, 3], [1, 2], [2, 3]]


def test_without_an_embedding_the_config_is_unchanged(tmp_path: Path) -> None:
    assert get_fn_args(tmp_path, {}).custom_config == {"case": "tiny", "settings": {"a": 1}}


@pytest.mark.parametrize(("name", "expected"), [("fraud", True), ("image", False)])
def test_only_a_case_with_sentences_has_the_stage(name: str, expected: bool) -> None:
    settings = CASES[name].configure({})
    settings["data"] |= {"first_day": 0, "last_day": 89, "classes": ["a", "b"], "height": 8, "width": 8, "channels": 1}
    plan = Plan(CASES[name], "/raw", 0, 1, settings, "", "/versions", "")
    nodes = {stage.node.id: stage.node for stage in graph.build(plan)}
    assert ("SkipGram" in nodes) is ("pretrained" in nodes["Trainer"].inputs) is expected
    assert (stages.embedding(plan, channel(standard_artifacts.Examples)) is not None) is expected
