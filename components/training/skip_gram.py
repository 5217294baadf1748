"""Vectors for the words of a case's sequences, learnt without labels: for the network, and to ask what is like what."""

import json
from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.artifact import Artifact
from tfx.types.standard_artifacts import Examples

from models import skip_gram
from models.catalog import find


class Embedding(Artifact):
    """A folder with ``words.json``, ``matrix.npy`` (a row a word) and ``embedding.json`` (parameters, loss curve, seconds)."""

    TYPE_NAME = "Embedding"


@component
def SkipGram(examples: InputArtifact[Examples], config: Parameter[str], embedding: OutputArtifact[Embedding]) -> None:
    """Trains on the sequences that the case's ``sentences.py`` reads from the train split, and times a step both ways."""
    told = json.loads(config)
    sentences = find(told["case"]).load("sentences")
    learnt = skip_gram.train(sentences.sentences(examples.uri, told["settings"]), told["settings"])
    times = skip_gram.step_times(len(learnt.words), told["settings"]["embedding_size"], told["settings"]["num_sampled"])
    learnt.facts |= {"vocabulary": sentences.VOCABULARY, "step_us": times}
    learnt.save(Path(embedding.uri))
