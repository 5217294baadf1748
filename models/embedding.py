"""Words and their vectors, as files; to ask what is like what needs no TensorFlow."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class Embedding:
    """Words and their vectors.

    Attributes:
        words: The vocabulary, the most frequent first.
        matrix: A row a word, float32 ``[words, embedding_size]``.
        facts: How it was trained: parameters, loss curve, seconds.
    """

    words: list[str]
    matrix: np.ndarray
    facts: dict[str, Any]

    def save(self, folder: str | Path) -> None:
        """Writes ``words.json``, ``matrix.npy`` and ``embedding.json``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "words.json").write_text(json.dumps(self.words))
        np.save(folder / "matrix.npy", self.matrix)
        (folder / "embedding.json").write_text(json.dumps(self.facts, indent=1))

    @classmethod
    def load(cls, folder: str | Path) -> "Embedding":
        """What ``save`` wrote."""
        folder = Path(folder)
        words = json.loads((folder / "words.json").read_text())
        return cls(words, np.load(folder / "matrix.npy"), json.loads((folder / "embedding.json").read_text()))

    def neighbours(self, word: str, number: int) -> list[tuple[str, float]]:
        """The words nearest by the cosine of their vectors, the nearest first, without the word itself.

        Raises:
            ValueError: for a word that is not in the vocabulary.
        """
        if word not in self.words:
            raise ValueError(
                f"'{word}' is not among the {len(self.words)} that have an embedding; it is unknown or came too seldom."
            )
        unit = self.matrix / np.maximum(np.linalg.norm(self.matrix, axis=1, keepdims=True), 1e-9)
        at = self.words.index(word)
        cosine = unit @ unit[at]
        order = [row for row in np.argsort(-cosine, kind="stable") if row != at]
        return [(self.words[row], float(cosine[row])) for row in order[:number]]

    def aligned(self, words: Sequence[str], unknown: int = 1) -> "Embedding":
        """The rows in the order of another vocabulary; the mean vector for words without one and ``unknown`` rows more."""
        places = {word: row for row, word in enumerate(self.words)}
        known = np.vstack([self.matrix, self.matrix.mean(axis=0)])
        rows = [places.get(word, len(self.words)) for word in words] + [len(self.words)] * unknown
        return Embedding([*words, *[""] * unknown], known[rows].astype(np.float32), self.facts)
