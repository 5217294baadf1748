"""Skip-gram: pairs against a double loop, the loss against NumPy, and planted groups recovered as neighbours."""

import numpy as np
import pytest
import tensorflow as tf

from models.sequences import skip_gram
from models.sequences.embedding import WordVectors

SETTINGS = {
    "embedding_size": 8,
    "max_vocabulary_size": 1000,
    "min_occurrence": 2,
    "skip_window": 2,
    "num_skips": 3,
    "num_sampled": 8,
    "embedding_epochs": 12,
    "embedding_rate": 0.2,
    "embedding_seed": 3,
}
SENTENCES = [[0, 1, 2, 3, 1], [4], [], [2, 2, 0], [5, 6]]


def loop_over_pairs(sentences: list[list[int]], window: int) -> list[tuple[int, int]]:
    """Every pair in a window, word by word."""
    pairs = []
    for sentence in sentences:
        for position, centre in enumerate(sentence):
            for other in range(max(0, position - window), min(len(sentence), position + window + 1)):
                if other != position:
                    pairs.append((centre, sentence[other]))
    return sorted(pairs)


def plant_groups(seed: int = 1, groups: int = 5, size: int = 6) -> list[list[str]]:
    """Sentences, each with the words of one group."""
    rng = np.random.default_rng(seed)
    return [[f"g{group}w{n}" for n in rng.integers(0, size, 12)] for group in rng.integers(0, groups, 400)]


@pytest.mark.parametrize("window", [1, 2, 5])
def test_all_pairs_are_those_of_a_double_loop(window: int) -> None:
    centres, contexts = skip_gram.draw_pairs(SENTENCES, window, 2 * window, seed=1)
    assert sorted(zip(centres.tolist(), contexts.tolist(), strict=True)) == loop_over_pairs(SENTENCES, window)


@pytest.mark.parametrize(("window", "skips"), [(2, 1), (2, 3), (3, 4)])
def test_each_word_draws_num_skips_contexts_or_all(window: int, skips: int) -> None:
    sentence = list(range(100, 110))
    centres, contexts = skip_gram.draw_pairs([sentence], window, skips, seed=1)
    for position, word in enumerate(sentence):
        window_words = {
            sentence[n] for n in range(max(0, position - window), min(10, position + window + 1)) if n != position
        }
        drawn = contexts[centres == word]
        assert len(drawn) == min(skips, len(window_words)) == len(set(drawn)) and set(drawn) <= window_words


def test_contexts_are_drawn_uniformly_and_by_seed() -> None:
    sentence = [list(range(5))] * 3000
    _, contexts = skip_gram.draw_pairs(sentence, 2, 1, seed=1)
    middle = np.bincount(contexts.reshape(3000, 5)[:, 2], minlength=5) / 3000
    assert np.allclose(middle, [0.25, 0.25, 0, 0.25, 0.25], atol=0.03)
    assert np.array_equal(contexts, skip_gram.draw_pairs(sentence, 2, 1, seed=1)[1])
    assert not np.array_equal(contexts, skip_gram.draw_pairs(sentence, 2, 1, seed=2)[1])


def test_no_sentence_gives_no_pair() -> None:
    for none in ([], [[]], [[3]]):
        centres, contexts = skip_gram.draw_pairs(none, 2, 2, seed=1)
        assert len(centres) == len(contexts) == 0


def test_the_vocabulary_is_the_frequent_words_in_order() -> None:
    sequences = [["b", "a", "c"], ["a", "b", "d"], ["a", "e", "e"]]
    assert skip_gram.build_vocabulary(sequences, 10, 1) == ["a", "b", "e", "c", "d"]
    assert skip_gram.build_vocabulary(sequences, 10, 2) == ["a", "b", "e"]
    assert skip_gram.build_vocabulary(sequences, 2, 1) == ["a", "b"]


def test_the_loss_is_its_formula() -> None:
    rng = np.random.default_rng(1)
    centre, context, noise = (rng.normal(size=(rows, 4)).astype(np.float32) for rows in (3, 3, 5))
    hits = np.zeros((3, 5), np.float32)
    hits[1, 2] = 1

    def s(x: float) -> float:
        return 1 / (1 + np.exp(-x))

    expected = []
    for row in range(3):
        others = [np.log(s(-noise[n] @ centre[row])) for n in range(5) if not hits[row, n]]
        expected.append(-np.log(s(centre[row] @ context[row])) - 4 * np.mean(others))
    loss = skip_gram.negative_sampling_loss(*map(tf.constant, (centre, context, noise, hits)), 4)
    assert np.allclose(loss, expected, rtol=1e-5)


def test_a_step_is_adagrad_on_the_gradient_of_the_sum() -> None:
    """The full softmax, since its gradient is known: probabilities minus one-hot."""
    model = skip_gram.SkipGramModel(4, 3, 2, rate=0.5, seed=1)
    model.contexts.assign(np.random.default_rng(1).normal(size=(4, 3)))
    u, v = model.centres.numpy(), model.contexts.numpy()
    centres, contexts = np.array([0, 2, 0]), np.array([1, 3, 2])
    logits = u[centres] @ v.T
    gap = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(4)[contexts]
    gradient_u, gradient_v = np.zeros((4, 3)), gap.T @ u[centres]
    np.add.at(gradient_u, centres, gap @ v)
    model.softmax_step(tf.constant(centres), tf.constant(contexts))
    assert np.allclose(model.centres, u - 0.5 * gradient_u / np.sqrt(0.1 + gradient_u**2), atol=1e-5)
    assert np.allclose(model.contexts, v - 0.5 * gradient_v / np.sqrt(0.1 + gradient_v**2), atol=1e-5)


def test_planted_groups_come_back_as_neighbours() -> None:
    embedding = skip_gram.train(plant_groups(), SETTINGS)
    assert len(embedding.words) == 30 and embedding.matrix.shape == (30, 8) and embedding.matrix.dtype == np.float32
    for word in embedding.words:
        near = [other[:2] for other, _ in embedding.neighbours(word, 5)]
        assert near == [word[:2]] * 5
    facts = embedding.facts
    assert facts["loss"][-1] < 0.8 * facts["loss"][0] and len(facts["loss"]) == 12 and facts["seconds"] > 0
    assert facts["tokens"] == 400 * 12 and facts["sequences"] == 400
    # Three contexts for each word; at both ends of a sentence only two and three.
    assert facts["pairs"] == 12 * 400 * (8 * 3 + 2 * 2 + 2 * 3)


def test_the_same_seed_gives_the_same_vectors() -> None:
    first, second = (skip_gram.train(plant_groups(), {**SETTINGS, "embedding_epochs": 2}) for _ in range(2))
    assert np.array_equal(first.matrix, second.matrix)


def test_neighbours_are_by_cosine_and_without_the_word() -> None:
    matrix = np.array([[1, 0], [10, 1], [0, 2], [-1, 0]], np.float32)
    neighbours = WordVectors(["a", "b", "c", "d"], matrix, {}).neighbours("a", 9)
    assert [word for word, _ in neighbours] == ["b", "c", "d"]
    assert [value for _, value in neighbours] == pytest.approx([10 / np.sqrt(101), 0, -1])
    with pytest.raises(ValueError, match="'z' is not among the 4"):
        WordVectors(["a", "b", "c", "d"], matrix, {}).neighbours("z", 3)


def test_rows_follow_another_vocabulary_by_their_words() -> None:
    matrix = np.array([[1, 1], [2, 2], [6, 6]], np.float32)
    aligned = WordVectors(["a", "b", "c"], matrix, {"k": 1}).align(["c", "new", "a"])
    assert aligned.matrix.tolist() == [[6, 6], [3, 3], [1, 1], [3, 3]] and aligned.facts == {"k": 1}


def test_saved_embedding_is_loaded_unchanged(tmp_path) -> None:
    saved = WordVectors(["a", "ü"], np.eye(2, dtype=np.float32), {"loss": [1.0]})
    saved.save(tmp_path / "new")
    loaded = WordVectors.load(tmp_path / "new")
    assert loaded.words == saved.words and np.array_equal(loaded.matrix, saved.matrix) and loaded.facts == saved.facts


def test_impossible_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="lower min_occurrence"):
        skip_gram.train(plant_groups(), {**SETTINGS, "min_occurrence": 10**6})


def test_both_kinds_of_step_are_timed() -> None:
    times = skip_gram.measure_step_times(500, 8, 16, batch=256)
    assert set(times) == {"negative sampling", "full softmax"} and all(value > 0 for value in times.values())
