"""Skip-gram embedding of the words in a case's sequences, learned without labels; for the network and for neighbours."""

import json
from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.artifact import Artifact
from tfx.types.standard_artifacts import Examples

from models.catalog import find_use_case
from models.sequences import skip_gram


class Embedding(Artifact):
    """A folder with ``words.json``, ``matrix.npy`` (one row a word) and ``embedding.json`` (parameters, loss, seconds)."""

    TYPE_NAME = "Embedding"


@component
def SkipGram(examples: InputArtifact[Examples], config: Parameter[str], embedding: OutputArtifact[Embedding]) -> None:
    """Train on the sequences that the case's ``sentences.py`` reads from the train split; time a step with both losses."""
    options = json.loads(config)
    sentences = find_use_case(options["case"]).load("sentences")
    settings = options["settings"]
    learned = skip_gram.train(sentences.sentences(examples.uri, settings), settings)
    step_times = skip_gram.measure_step_times(len(learned.words), settings["embedding_size"], settings["num_sampled"])
    learned.facts |= {"vocabulary": sentences.VOCABULARY, "step_us": step_times}
    learned.save(Path(embedding.uri))
