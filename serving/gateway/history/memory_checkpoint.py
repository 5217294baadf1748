"""The memory on disk, as it was at one moment: JSON in pieces that are short to make, and a file that is whole or not there."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from serving.gateway.log.log_files import Place, synced

FILE = "checkpoint.json"
LABELS_A_PIECE = 5_000


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        at, labels_at: The places in the logs before which everything is in it.
        labelled: Labels by the hash of their row's key.
        states: The memory in parts, each for ``Online.load``.
    """

    at: Place
    labels_at: Place
    labelled: Mapping[int, int | str]
    states: Iterable[Any]


def pieces(told: Checkpoint) -> Iterator[bytes]:
    """The file's text; the labels that are there at the call, however many come until the last piece."""
    names, head = iter(list(told.labelled)), {"at": _plain(told.at), "labels_at": _plain(told.labels_at)}

    def text() -> Iterator[bytes]:
        yield orjson.dumps(head)[:-1] + b',"labelled":['
        comma = b""
        while some := list(islice(names, LABELS_A_PIECE)):
            yield comma + orjson.dumps([(name, told.labelled[name]) for name in some])[1:-1]
            comma = b","
        yield b'],"state":['
        for number, state in enumerate(told.states):
            yield b"," * (number > 0) + orjson.dumps(state)
        yield b"]}"

    return text()


def save(folder: Path, text: Iterable[bytes]) -> None:
    """Replaces the folder's checkpoint, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{FILE}.{os.getpid()}"
    with beside.open("wb") as stream:
        stream.writelines(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(beside, folder / FILE)
    synced(folder)


def load(folder: Path) -> Checkpoint | None:
    """The folder's checkpoint; None where there is none.

    Raises:
        ValueError: if it is damaged.
    """
    path = folder / FILE
    try:
        told = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); remove it to replay the whole log.") from None
    states = told["state"] if isinstance(told["state"], list) else [told["state"]]  # one whole, as it once was
    return Checkpoint(Place(*told["at"]), Place(*told["labels_at"]), dict(told["labelled"]), states)


def _plain(place: Place) -> list[int]:
    return [place.file, place.offset]
