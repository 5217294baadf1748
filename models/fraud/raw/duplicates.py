"""Repeated purchases: exact copies of a row, which count once, and ids that different rows share, which are refused."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MULTIPLIERS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9)
MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)  # the first bytes of a little-endian word


def hash_rows(table: pa.Table) -> np.ndarray:
    """Hash all columns of each row, uint64 ``[rows]``; equal rows have equal hashes."""
    total = np.zeros(len(table), np.uint64)
    for column in table.columns:
        total = _mix(total ^ hash_column(column))
    return total


def hash_column(column: pa.ChunkedArray) -> np.ndarray:
    """Hash each value, uint64 ``[rows]``; equal values, and nulls, have equal hashes."""
    parts = [_hash_texts(part) if pa.types.is_string(part.type) else _hash_numbers(part) for part in column.chunks]
    return _join(parts)


def _hash_numbers(column: pa.Array) -> np.ndarray:
    if pa.types.is_floating(column.type):
        values = pc.fill_null(column, np.nan).to_numpy()
    else:
        values = pc.fill_null(column.cast(pa.int64()), np.iinfo(np.int64).min).to_numpy()
    return _mix(np.ascontiguousarray(values).view(np.uint64))


def _hash_texts(column: pa.Array) -> np.ndarray:
    """Hash texts eight bytes at a time, all rows at once."""
    _, offsets, data = column.buffers()
    bounds = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    characters = np.append(np.frombuffer(data or b"", np.uint8), np.zeros(8, np.uint8))
    words = np.lib.stride_tricks.sliding_window_view(characters, 8)
    lengths = np.diff(bounds)
    total = np.where(column.is_valid(), lengths, -1).astype(np.uint64)
    for start in range(0, int(lengths.max(initial=0)), 8):
        rows = np.flatnonzero(lengths > start)
        word = words[bounds[rows] + start].view(np.uint64)[:, 0] & MASKS[np.minimum(lengths[rows] - start, 8)]
        total[rows] = _mix(total[rows] ^ word)
    return _mix(total)


def _mix(words: np.ndarray) -> np.ndarray:
    """Spread each bit over the word, as in SplitMix64."""
    for multiplier in MULTIPLIERS:
        words = (words ^ (words >> np.uint64(30))) * np.uint64(multiplier)
    return words ^ (words >> np.uint64(31))


def drop_copies(table: pa.Table) -> pa.Table:
    """Return the table with the first of equal rows."""
    hashes = hash_rows(table)
    if len(np.unique(hashes)) == len(hashes):
        return table
    _, first = np.unique(hashes, return_index=True)
    return table.take(pa.array(np.sort(first)))


@dataclass(frozen=True)
class SharedId:
    """An id that two different rows have: their files, their rows there from 0, and the number of such rows in all."""

    first: tuple[Path, int]
    second: tuple[Path, int]
    count: int


class RowIndex:
    """Hashes of the ids and rows of many files, to find copies and shared ids without the rows themselves.

    All files are added before anything is searched.

    Memory is 16 bytes a row. Of a billion different rows, two have equal hashes with a probability of 3 percent.
    """

    def __init__(self) -> None:
        self._paths: list[Path] = []
        self._ids: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []

    def add(self, path: Path, table: pa.Table) -> None:
        """Add the rows of a file, in their order there."""
        self._paths.append(path)
        self._ids.append(hash_column(table["transaction_id"]))
        self._rows.append(hash_rows(table))

    def find_copies(self) -> dict[Path, np.ndarray]:
        """Return the rows of each file, from 0, that equal a row before them; only files with such rows are included."""
        positions, firsts = self._repeated
        rows = _join(self._rows)
        copies = np.sort(positions[rows[positions] == rows[firsts]])
        starts = np.cumsum([0, *(len(ids) for ids in self._ids)])
        files, indices = np.unique(self._files(copies), return_index=True)
        parts = np.split(copies, indices[1:])
        return {self._paths[file]: part - starts[file] for file, part in zip(files, parts, strict=False)}

    def find_shared_id(self) -> SharedId | None:
        """Find the first id that different rows have."""
        positions, firsts = self._repeated
        rows = _join(self._rows)
        different = np.flatnonzero(rows[positions] != rows[firsts])
        if not different.size:
            return None
        first = different[np.argmin(positions[different])]
        return SharedId(self._locate(firsts[first]), self._locate(positions[first]), len(different))

    def find_copied_files(self) -> list[tuple[Path, Path]]:
        """Return each file all of whose ids are also in another file, with that file."""
        positions, firsts = self._repeated
        file, first_file = self._files(positions), self._files(firsts)
        pairs = np.unique(np.stack([file, first_file, firsts]), axis=1)[:2, :]
        shared = Counter((int(file), int(other)) for file, other in pairs.T if file != other)
        whole = {
            (copy, original)
            for pair, count in shared.items()
            for copy, original in (pair, pair[::-1])
            if count == len(np.unique(self._ids[copy]))
        }
        # Of two equal files the later is the copy.
        copies = [(copy, file) for copy, file in sorted(whole) if copy > file or (file, copy) not in whole]
        return [(self._paths[copy], self._paths[original]) for copy, original in copies]

    @cached_property
    def _repeated(self) -> tuple[np.ndarray, np.ndarray]:
        """The positions of rows whose id occurs before, and for each the position of the first row with that id."""
        ids = _join(self._ids)
        order = np.argsort(ids, kind="stable")
        repeated = np.append(False, ids[order][1:] == ids[order][:-1])[: len(ids)]
        starts = np.maximum.accumulate(np.where(repeated, 0, np.arange(len(ids))))
        return order[repeated], order[starts[repeated]]

    def _files(self, positions: np.ndarray) -> np.ndarray:
        return np.searchsorted(np.cumsum([len(ids) for ids in self._ids]), positions, side="right")

    def _locate(self, position: int) -> tuple[Path, int]:
        file = int(self._files(np.array([position]))[0])
        return self._paths[file], int(position) - sum(len(ids) for ids in self._ids[:file])


def _join(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, np.uint64), *parts])
