"""TFX's Trainer with one input more: what a stage before has learnt."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow_transform as tft
from tfx.components.trainer.executor import GenericExecutor
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.dsl.components.base import executor_spec
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.types import Artifact, BaseChannel, Channel, artifact_utils, standard_artifacts, standard_component_specs
from tfx.types.component_spec import ChannelParameter
from tfx.utils import json_utils

from components.training import skip_gram
from models.embedding import Embedding

PRETRAINED = "pretrained"


class Spec(standard_component_specs.TrainerSpec):
    """The Trainer's inputs, and ``pretrained``, which may be left out."""

    INPUTS = {
        **standard_component_specs.TrainerSpec.INPUTS,
        PRETRAINED: ChannelParameter(type=skip_gram.Embedding, optional=True),
    }


class Executor(GenericExecutor):
    """Tells ``run_fn`` where the embedding is, its rows in the order of the transform graph's vocabulary."""

    def _GetFnArgs(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> FnArgs:
        told = super()._GetFnArgs(input_dict, output_dict, exec_properties)
        if input_dict.get(PRETRAINED):
            source = artifact_utils.get_single_uri(input_dict[PRETRAINED])
            folder = aligned(source, told.transform_graph_path, Path(told.model_run_dir, PRETRAINED))
            told.custom_config = {**told.custom_config, PRETRAINED: str(folder)}
        return told


def aligned(source: str, transform_graph: str, folder: Path) -> Path:
    """Writes the embedding again, its rows in the order of the vocabulary by which Transform numbers the same words.

    Two stages count words apart from each other; what joins them is the word itself.
    """
    learnt = Embedding.load(source)
    words = tft.TFTransformOutput(transform_graph).vocabulary_by_name(learnt.facts["vocabulary"])
    learnt.aligned([word.decode() for word in words]).save(folder)
    return folder


class Trainer(BaseComponent):
    """TFX's Trainer with importable code, under its own name; its constructor would make a spec without the further input.

    Args:
        run_fn: Importable name of the function that trains.
        custom_config: What it is told.
        pretrained: Channel of an embedding; None for none.
        inputs: The Trainer's other channels and ``train_args``, ``eval_args``, as it takes them.
    """

    SPEC_CLASS = Spec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self, run_fn: str, custom_config: Mapping[str, Any], pretrained: BaseChannel | None = None, **inputs: Any
    ):
        spec = Spec(
            run_fn=run_fn,
            custom_config=json_utils.dumps(dict(custom_config)),
            pretrained=pretrained,
            model=Channel(type=standard_artifacts.Model),
            model_run=Channel(type=standard_artifacts.ModelRun),
            **inputs,
        )
        super().__init__(spec=spec)
