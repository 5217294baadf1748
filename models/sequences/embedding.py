"""Embedding files: words and their vectors, and nearest neighbours without TensorFlow."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class WordVectors:
    """Words and their vectors.

    Attributes:
        words: The vocabulary, most frequent first.
        matrix: One row for each word, float32 ``[words, embedding_size]``.
        facts: Record of the training: parameters, loss curve, seconds.
    """

    words: list[str]
    matrix: np.ndarray
    facts: dict[str, Any]

    def save(self, folder: str | Path) -> None:
        """Write ``words.json``, ``matrix.npy`` and ``embedding.json``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "words.json").write_text(json.dumps(self.words))
        np.save(folder / "matrix.npy", self.matrix)
        (folder / "embedding.json").write_text(json.dumps(self.facts, indent=1))

    @classmethod
    def load(cls, folder: str | Path) -> "WordVectors":
        folder = Path(folder)
        words = json.loads((folder / "words.json").read_text())
        return cls(words, np.load(folder / "matrix.npy"), json.loads((folder / "embedding.json").read_text()))

    def neighbours(self, word: str, number: int) -> list[tuple[str, float]]:
        """Return the nearest words by cosine similarity, nearest first, without the word itself.

        Raises:
            ValueError: for a word that is not in the vocabulary.
        """
        if word not in self.words:
            raise ValueError(
                f"'{word}' is not among the {len(self.words)} that have an embedding; it is unknown or too rare."
            )
        unit = self.matrix / np.maximum(np.linalg.norm(self.matrix, axis=1, keepdims=True), 1e-9)
        position = self.words.index(word)
        cosine = unit @ unit[position]
        order = [row for row in np.argsort(-cosine, kind="stable") if row != position]
        return [(self.words[row], float(cosine[row])) for row in order[:number]]

    def align(self, words: Sequence[str], unknown: int = 1) -> "WordVectors":
        """Reorder the rows to another vocabulary; unknown words get the mean vector, as do ``unknown`` extra rows."""
        positions = {word: row for row, word in enumerate(self.words)}
        vectors = np.vstack([self.matrix, self.matrix.mean(axis=0)])
        rows = [positions.get(word, len(self.words)) for word in words] + [len(self.words)] * unknown
        return WordVectors([*words, *[""] * unknown], vectors[rows].astype(np.float32), self.facts)
