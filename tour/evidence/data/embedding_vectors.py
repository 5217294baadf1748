"""The embedding of the run: its parameters, how it was learnt, what is like what, and what negative sampling saves."""

from collections.abc import Mapping
from typing import Any

from models import skip_gram
from models.embedding import Embedding
from tour.evidence.context import Context
from tour.evidence.result_types import NotHere, Number, Result, Series, Table

PARAMETERS = {
    "embedding_size": "length of a vector",
    "max_vocabulary_size": "words that get one at most",
    "min_occurrence": "times that a word has to occur",
    "skip_window": "neighbours on each side that count as context",
    "num_skips": "contexts that a word draws from them",
    "num_sampled": "noise words that a batch draws",
}
WORDS, NEAR, LARGE = 3, 5, 20_000


def word2vec(context: Context) -> list[Result]:
    """A25: the six parameters of the run, its loss, neighbours of the most frequent words, and a step timed both ways."""
    if not context.case.has("sentences"):
        return [NotHere("Word2vec", f"The rows of {context.case.name} form no sequences; ask with another --case.")]
    learnt = Embedding.load(context.artifact("embedding"))
    return [
        parameters(learnt.facts),
        Series("Loss by negative sampling", "epoch", "loss", {"train": _points(learnt.facts["loss"])}),
        neighbours(learnt, learnt.words[:WORDS]),
        steps(learnt.facts["settings"], (learnt.facts["words"], LARGE)),
        Number("Trained in", learnt.facts["seconds"], f"s on {learnt.facts['pairs']:,} pairs"),
    ]


def parameters(facts: Mapping[str, Any]) -> Table:
    """The six by their usual names, with what they made of this run's sequences."""
    rows = [(name, facts["settings"][name], what) for name, what in PARAMETERS.items()]
    rows += [(f"({name})", facts[name], "counted in this run") for name in ("words", "sequences", "tokens")]
    return Table("Parameters of the run", ("name", "value", "what it is"), tuple(rows))


def neighbours(learnt: Embedding, words: list[str]) -> Table:
    """The nearest by cosine."""
    rows = tuple((word, other, cosine) for word in words for other, cosine in learnt.neighbours(word, NEAR))
    return Table("Nearest neighbours of the most frequent", ("word", "neighbour", "cosine"), rows)


def steps(settings: Mapping[str, Any], sizes: tuple[int, ...]) -> Table:
    """Milliseconds of a step now, by the size of the vocabulary: the run's, and a large one."""
    rows = []
    for size in sizes:
        found = skip_gram.step_times(size, settings["embedding_size"], settings["num_sampled"], times=5)
        sampled, full = found["negative sampling"] / 1e3, found["full softmax"] / 1e3
        rows.append((size, sampled, full, full / sampled))
    return Table("A step, ms", ("vocabulary", "negative sampling", "full softmax", "ratio"), tuple(rows))


def _points(values: list[float]) -> tuple[tuple[float, float], ...]:
    return tuple((epoch + 1, value) for epoch, value in enumerate(values))
