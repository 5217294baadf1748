"""Evidence on the run's embedding: parameters, loss, nearest neighbours, and the time that negative sampling saves."""

from collections.abc import Mapping
from typing import Any

from models.sequences import skip_gram
from models.sequences.embedding import WordVectors
from tour.evidence.context import Context
from tour.evidence.result_types import NotHere, Number, Result, Series, Table

PARAMETERS = {
    "embedding_size": "length of a vector",
    "max_vocabulary_size": "maximum number of words with a vector",
    "min_occurrence": "minimum number of occurrences of a word",
    "skip_window": "neighbours on each side that count as context",
    "num_skips": "context words sampled per word",
    "num_sampled": "negative samples per batch",
}
WORDS, NEAR, LARGE = 3, 5, 20_000


def word2vec(context: Context) -> list[Result]:
    """A25: the six parameters, the loss, neighbours of the most frequent words, and step times by kind of softmax."""
    if not context.case.has("sentences"):
        return [
            NotHere("Word2vec", f"The rows of {context.case.name} form no sequences. Use --case with another use case.")
        ]
    embedding = WordVectors.load(context.artifact("embedding"))
    return [
        embedding_parameters(embedding.facts),
        Series("Loss with negative sampling", "epoch", "loss", {"train": _points(embedding.facts["loss"])}),
        neighbours(embedding, embedding.words[:WORDS]),
        time_steps(embedding.facts["settings"], (embedding.facts["words"], LARGE)),
        Number("Training time", embedding.facts["seconds"], f"s for {embedding.facts['pairs']:,} pairs"),
    ]


def embedding_parameters(facts: Mapping[str, Any]) -> Table:
    """The six parameters by their usual names, and the counts of this run."""
    rows = [(name, facts["settings"][name], meaning) for name, meaning in PARAMETERS.items()]
    rows += [(f"({name})", facts[name], "counted in this run") for name in ("words", "sequences", "tokens")]
    return Table("Parameters of the run", ("name", "value", "meaning"), tuple(rows))


def neighbours(embedding: WordVectors, words: list[str]) -> Table:
    """Nearest neighbours by cosine similarity."""
    rows = tuple((word, neighbour, cosine) for word in words for neighbour, cosine in embedding.neighbours(word, NEAR))
    return Table("Nearest neighbours of the most frequent words", ("word", "neighbour", "cosine similarity"), rows)


def time_steps(settings: Mapping[str, Any], sizes: tuple[int, ...]) -> Table:
    """Measure the milliseconds of a step by vocabulary size: the run's, and a large one."""
    rows = []
    for size in sizes:
        times = skip_gram.measure_step_times(size, settings["embedding_size"], settings["num_sampled"], times=5)
        sampled, full = times["negative sampling"] / 1e3, times["full softmax"] / 1e3
        rows.append((size, sampled, full, full / sampled))
    return Table(
        "Duration of a training step, ms", ("words", "negative sampling", "full softmax", "ratio"), tuple(rows)
    )


def _points(values: list[float]) -> tuple[tuple[float, float], ...]:
    return tuple((epoch + 1, value) for epoch, value in enumerate(values))
