"""Word2vec's skip-gram with negative sampling (Mikolov et al. 2013) over any sequences of strings."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from models.sequences.embedding import WordVectors

BATCH = 2048
# Noise words for each pair. The batch shares the drawn words; their mean loss is multiplied by this number.
NEGATIVES = 5
TIMED_STEPS = 30
SETTINGS = (
    "embedding_size",
    "max_vocabulary_size",
    "min_occurrence",
    "skip_window",
    "num_skips",
    "num_sampled",
    "embedding_epochs",
    "embedding_rate",
)
Step = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def build_vocabulary(sequences: Sequence[Sequence[str]], max_vocabulary_size: int, min_occurrence: int) -> list[str]:
    """The words that occur at least ``min_occurrence`` times, most frequent first, ties by name."""
    counts = Counter(word for sequence in sequences for word in sequence)
    often = [word for word, count in counts.items() if count >= min_occurrence]
    return sorted(often, key=lambda word: (-counts[word], word))[:max_vocabulary_size]


def draw_pairs(
    sequences: Sequence[Sequence[int]], skip_window: int, num_skips: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw pairs of centre and context words, int64 ``[pairs]`` each, without a loop over words.

    Of the at most ``2 * skip_window`` neighbours of each word in its sequence, ``num_skips`` are drawn, or all if there
    are fewer.
    """
    words = np.concatenate([np.asarray(sequence, np.int64) for sequence in sequences] or [np.zeros(0, np.int64)])
    owner = np.repeat(np.arange(len(sequences)), [len(sequence) for sequence in sequences])
    offsets = np.array([step for step in range(-skip_window, skip_window + 1) if step])
    positions = np.arange(len(words))[:, None] + offsets
    inside = (positions >= 0) & (positions < len(words))
    positions = np.where(inside, positions, 0)
    inside &= owner[positions] == owner[:, None] if len(words) else inside
    # Each neighbour draws a random number and the smallest are taken; positions outside the sequence sort last.
    keys = np.where(inside, np.random.default_rng(seed).random(inside.shape), 2.0)
    chosen = np.argsort(keys, axis=1)[:, : min(num_skips, len(offsets))]
    valid = np.take_along_axis(inside, chosen, axis=1)
    contexts = words[np.take_along_axis(positions, chosen, axis=1)]
    return np.repeat(words, valid.sum(axis=1)), contexts[valid]


def negative_sampling_loss(
    centre: tf.Tensor, context: tf.Tensor, noise: tf.Tensor, hits: tf.Tensor, negatives: int
) -> tf.Tensor:
    """Negative-sampling loss, ``[batch]``: ``-log s(c.o) - sum over noise of log s(-c.n)``.

    It is the binary cross-entropy of the question whether a word is a neighbour or noise.

    Args:
        centre: Vectors of the centres, ``[batch, size]``.
        context: Output vectors of their contexts, ``[batch, size]``.
        noise: Output vectors of the drawn noise words, ``[sampled, size]``, shared by the batch.
        hits: 1 where a drawn word is the context itself, ``[batch, sampled]``; it is excluded.
        negatives: Effective number of noise words for each pair: the mean over the drawn words is multiplied by it.
    """
    true = tf.nn.softplus(-tf.reduce_sum(centre * context, axis=1))
    false = tf.nn.softplus(tf.matmul(centre, noise, transpose_b=True)) * (1.0 - hits)
    return true + negatives * tf.reduce_sum(false, axis=1) / tf.maximum(tf.reduce_sum(1.0 - hits, axis=1), 1.0)


class SkipGramModel(tf.Module):
    """Input vectors, which become the embedding, and output vectors; steps by negative sampling and full softmax.

    Question: A25
    Answer: embedding_size is the vector length; max_vocabulary_size and min_occurrence decide which words get a vector;
        skip_window is the context width; num_skips is how many contexts are drawn for each word; num_sampled is how
        many noise words replace the full vocabulary. Negative sampling classifies "neighbour or noise", so the cost of
        a step does not grow with the vocabulary, unlike a full softmax. Here the sequence of a card's merchants is the
        sentence.
    Evidence: tour.evidence.data.embedding_vectors.word2vec
    Proof: tests/models/sequences/test_skip_gram.py::test_planted_groups_come_back_as_neighbours
    """

    def __init__(self, words: int, size: int, num_sampled: int, rate: float, seed: int):
        super().__init__()
        draw = tf.random.Generator.from_seed(seed)
        self.centres = tf.Variable(draw.uniform([words, size], -0.5, 0.5) / size)
        self.contexts = tf.Variable(tf.zeros([words, size]))
        self.bias = tf.Variable(tf.zeros([words]))
        self.squares = [
            tf.Variable(tf.fill(variable.shape, 0.1)) for variable in (self.centres, self.contexts, self.bias)
        ]
        self.words, self.rate, self.seed = words, rate, seed
        self.sampled = min(num_sampled, words)

    @tf.function
    def sampled_step(self, centres: tf.Tensor, contexts: tf.Tensor) -> tf.Tensor:
        """Take one step on pairs of word numbers, ``[batch]`` each; return the mean loss.

        Noise words are drawn log-uniformly, so frequent words are drawn more often.
        """
        drawn, _, _ = tf.random.log_uniform_candidate_sampler(
            contexts[:, None], 1, self.sampled, unique=True, range_max=self.words, seed=self.seed
        )
        hits = tf.cast(contexts[:, None] == drawn[None, :], tf.float32)
        with tf.GradientTape() as tape:
            centre, context = tf.gather(self.centres, centres), tf.gather(self.contexts, contexts)
            negative = tf.gather(self.contexts, drawn)
            loss = tf.reduce_mean(negative_sampling_loss(centre, context, negative, hits, NEGATIVES))
        return self._apply(tape, loss, 2, tf.cast(len(centres), tf.float32))

    @tf.function
    def softmax_step(self, centres: tf.Tensor, contexts: tf.Tensor) -> tf.Tensor:
        """Take the same step with cross-entropy over the whole vocabulary."""
        with tf.GradientTape() as tape:
            logits = tf.matmul(tf.gather(self.centres, centres), self.contexts, transpose_b=True) + self.bias
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(contexts, logits))
        return self._apply(tape, loss, 3, tf.cast(len(centres), tf.float32))

    def _apply(self, tape: tf.GradientTape, loss: tf.Tensor, number: int, batch: tf.Tensor) -> tf.Tensor:
        """Apply Adagrad (Duchi et al. 2011) to the gradient summed over the batch; sparse gradients update only their rows."""
        variables = (self.centres, self.contexts, self.bias)[:number]
        for variable, square, gradient in zip(variables, self.squares, tape.gradient(loss, variables), strict=False):
            if isinstance(gradient, tf.IndexedSlices):
                rows, places = tf.unique(gradient.indices)
                values = batch * tf.math.unsorted_segment_sum(gradient.values, places, tf.size(rows))
                square.scatter_add(tf.IndexedSlices(values * values, rows))
                scale = tf.sqrt(tf.gather(square, rows))
                variable.scatter_sub(tf.IndexedSlices(self.rate * values / scale, rows))
            else:
                values = batch * gradient
                variable.assign_sub(self.rate * values * tf.math.rsqrt(square.assign_add(values * values)))
        return loss


def train(sequences: Sequence[Sequence[str]], settings: Mapping[str, Any]) -> WordVectors:
    """Train a vector for each word.

    Args:
        sequences: Words in order; a word's neighbours are its context.
        settings: ``embedding_size``, ``max_vocabulary_size``, ``min_occurrence``, ``skip_window``, ``num_skips`` and
            ``num_sampled``; ``embedding_epochs``, ``embedding_rate`` and ``embedding_seed``.

    Raises:
        ValueError: if fewer than two words are frequent enough.
    """
    started = time.perf_counter()
    words = build_vocabulary(sequences, settings["max_vocabulary_size"], settings["min_occurrence"])
    if len(words) < 2:
        raise ValueError("Fewer than two words occur often enough for an embedding; lower min_occurrence.")
    numbers = {word: number for number, word in enumerate(words)}
    encoded = [[numbers[word] for word in sequence if word in numbers] for sequence in sequences]
    model = SkipGramModel(
        len(words),
        settings["embedding_size"],
        settings["num_sampled"],
        settings["embedding_rate"],
        settings["embedding_seed"],
    )
    curve, pair_count = [], 0
    for epoch in range(settings["embedding_epochs"]):
        losses, count = _train_epoch(model, encoded, settings, settings["embedding_seed"] + epoch)
        curve.append(float(np.mean(losses)))
        pair_count += count
    facts = {
        "words": len(words),
        "sequences": len(sequences),
        "tokens": sum(map(len, encoded)),
        "pairs": pair_count,
        "loss": curve,
        "seconds": time.perf_counter() - started,
        "settings": {name: settings[name] for name in SETTINGS},
    }
    return WordVectors(words, model.centres.numpy(), facts)


def _train_epoch(
    model: SkipGramModel, encoded: list[list[int]], settings: Mapping[str, Any], seed: int
) -> tuple[list[float], int]:
    """Train one epoch on freshly drawn, shuffled pairs; return the batches' losses and the number of pairs."""
    centres, contexts = draw_pairs(encoded, settings["skip_window"], settings["num_skips"], seed)
    order = np.random.default_rng(seed).permutation(len(centres))
    batch = min(BATCH, len(order))
    starts = range(0, len(order) - batch + 1, batch) if batch else ()
    data = [tf.constant(column[order]) for column in (centres, contexts)]
    losses = [model.sampled_step(*(column[start : start + batch] for column in data)) for start in starts]
    return [float(loss) for loss in losses], len(order)


def measure_step_times(
    words: int, size: int, num_sampled: int, batch: int = BATCH, times: int = TIMED_STEPS
) -> dict[str, float]:
    """Median microseconds of a step by negative sampling and by full softmax, over ``times`` steps and ``words`` words."""
    model, rng = SkipGramModel(words, size, num_sampled, 0.1, seed=1), np.random.default_rng(1)
    centres, contexts = (tf.constant(rng.integers(0, words, batch)) for _ in range(2))
    medians = {}
    for name, step in (("negative sampling", model.sampled_step), ("full softmax", model.softmax_step)):
        step(centres, contexts)
        medians[name] = float(np.median([_time_step(step, centres, contexts) for _ in range(times)])) * 1e6
    return medians


def _time_step(step: Step, centres: tf.Tensor, contexts: tf.Tensor) -> float:
    started = time.perf_counter()
    step(centres, contexts).numpy()
    return time.perf_counter() - started
