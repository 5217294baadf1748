"""TFX's Trainer with one input more: what a stage before has learnt."""

from pathlib import Path
from typing import Any

import tensorflow_transform as tft
from tfx.components.trainer import component as trainer
from tfx.components.trainer.executor import GenericExecutor
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.dsl.components.base import executor_spec
from tfx.types import BaseChannel, artifact_utils, standard_component_specs
from tfx.types.component_spec import ChannelParameter

from components.skip_gram import Embedding
from models import skip_gram

PRETRAINED = "pretrained"


class Spec(standard_component_specs.TrainerSpec):
    """The Trainer's inputs, and ``pretrained``, which may be left out."""

    INPUTS = {**standard_component_specs.TrainerSpec.INPUTS, PRETRAINED: ChannelParameter(type=Embedding, optional=True)}


class Executor(GenericExecutor):
    """Tells ``run_fn`` where the embedding is, its rows in the order of the transform graph's vocabulary."""

    def _GetFnArgs(self, input_dict: dict, output_dict: dict, exec_properties: dict[str, Any]) -> FnArgs:
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
    learnt = skip_gram.Embedding.load(source)
    words = tft.TFTransformOutput(transform_graph).vocabulary_by_name(learnt.facts["vocabulary"])
    learnt.aligned([word.decode() for word in words]).save(folder)
    return folder


class Trainer(trainer.Trainer):
    """TFX's Trainer under its own name; ``pretrained`` is the channel of an embedding, or None."""

    SPEC_CLASS = Spec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, pretrained: BaseChannel | None = None, **inputs: Any):
        super().__init__(**inputs)
        # The Trainer's constructor makes a spec of its own inputs; it is made again here with one more.
        made = self.spec
        values = {**made.exec_properties, **made.inputs, **made.outputs, PRETRAINED: pretrained}
        self.spec = Spec(**{name: value for name, value in values.items() if value is not None})
