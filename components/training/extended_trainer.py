"""TFX's Trainer with one more input: the embedding that the SkipGram stage has learned."""

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

from components.training import sequence_embedding
from models.sequences.embedding import WordVectors

PRETRAINED = "pretrained"


class Spec(standard_component_specs.TrainerSpec):
    """The Trainer's inputs and the optional ``pretrained``."""

    INPUTS = {
        **standard_component_specs.TrainerSpec.INPUTS,
        PRETRAINED: ChannelParameter(type=sequence_embedding.Embedding, optional=True),
    }


class Executor(GenericExecutor):
    """Passes ``run_fn`` the embedding's folder, its rows in the order of the transform graph's vocabulary."""

    def _GetFnArgs(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> FnArgs:
        fn_args = super()._GetFnArgs(input_dict, output_dict, exec_properties)
        if input_dict.get(PRETRAINED):
            source = artifact_utils.get_single_uri(input_dict[PRETRAINED])
            folder = align_embedding(source, fn_args.transform_graph_path, Path(fn_args.model_run_dir, PRETRAINED))
            fn_args.custom_config = {**fn_args.custom_config, PRETRAINED: str(folder)}
        return fn_args


def align_embedding(source: str, transform_graph: str, folder: Path) -> Path:
    """Write the embedding with its rows in the order of Transform's vocabulary; return the folder.

    Transform and SkipGram number the words independently, so rows are joined by the word itself.
    """
    embedding = WordVectors.load(source)
    words = tft.TFTransformOutput(transform_graph).vocabulary_by_name(embedding.facts["vocabulary"])
    embedding.align([word.decode() for word in words]).save(folder)
    return folder


class Trainer(BaseComponent):
    """TFX's Trainer with the further input.

    It keeps the name and takes only an importable ``run_fn``. It does not derive from TFX's Trainer, whose constructor
    builds the spec without the further input.

    Args:
        run_fn: Importable name of the function that trains.
        custom_config: Configuration passed to ``run_fn``.
        pretrained: Channel of an embedding; None for none.
        inputs: The Trainer's other channels, ``train_args`` and ``eval_args``, as TFX's Trainer takes them.
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
