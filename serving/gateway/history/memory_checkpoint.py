"""Checkpoint of the memory: a consistent snapshot, encoded as JSON in small pieces and written atomically."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from serving.atomic_file import write_atomically
from serving.gateway.log.log_files import LogPosition

FILE = "checkpoint.json"
ENTRIES_PER_PIECE = 5_000


@dataclass(frozen=True)
class Checkpoint:
    """Contents of a checkpoint.

    Attributes:
        at, labels_at: Positions in the prediction log and the label log; the checkpoint covers everything before them.
        labelled: Labels by the hash of their row's key.
        requests: Hash of the key, file and offset of the first prediction of each request.
        states: The history in parts, each for ``Online.load``.
    """

    at: LogPosition
    labels_at: LogPosition
    labelled: Mapping[int, int | str]
    requests: Iterable[Sequence[int]]
    states: Iterable[Any]


def encode_pieces(checkpoint: Checkpoint) -> Iterator[bytes]:
    """Yield the file's text in pieces; labels that arrive after the call are not included."""
    hashes, requests = iter(list(checkpoint.labelled)), iter(checkpoint.requests)
    head = {"at": _to_list(checkpoint.at), "labels_at": _to_list(checkpoint.labels_at)}

    def encode() -> Iterator[bytes]:
        yield orjson.dumps(head)[:-1] + b',"labelled":['
        comma = b""
        while batch := list(islice(hashes, ENTRIES_PER_PIECE)):
            yield comma + orjson.dumps([(number, checkpoint.labelled[number]) for number in batch])[1:-1]
            comma = b","
        yield b'],"requests":['
        comma = b""
        while entries := list(islice(requests, ENTRIES_PER_PIECE)):
            yield comma + orjson.dumps(entries)[1:-1]
            comma = b","
        yield b'],"state":['
        for index, state in enumerate(checkpoint.states):
            yield b"," * (index > 0) + orjson.dumps(state)
        yield b"]}"

    return encode()


def save(folder: Path, text: Iterable[bytes]) -> None:
    """Replace the folder's checkpoint atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FILE, text)


def load(folder: Path) -> Checkpoint | None:
    """Read the folder's checkpoint; None if there is none.

    Raises:
        ValueError: if it is damaged.
    """
    path = folder / FILE
    try:
        contents = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); remove it to replay the whole log.") from None
    state = contents["state"]
    states = state if isinstance(state, list) else [state]  # older checkpoints hold the state as a single value
    return Checkpoint(
        LogPosition(*contents["at"]),
        LogPosition(*contents["labels_at"]),
        dict(contents["labelled"]),
        contents.get("requests", []),  # absent in older checkpoints
        states,
    )


def _to_list(position: LogPosition) -> list[int]:
    return [position.file, position.offset]
