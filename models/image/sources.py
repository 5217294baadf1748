"""Image data sets that can be had by name: scikit-learn's digits, and those that Keras downloads."""

import os
import socket
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np

from models.errors import DataError
from models.image.arrays import ARCHIVE, archive

KERAS = ("mnist", "fashion_mnist", "cifar10", "cifar100")
DOWNLOAD_SECONDS = 10.0


def embedded(folder: Path) -> Path:
    """Stores scikit-learn's 1,797 handwritten digits, uint8 [N,8,8,1], as ``span-000`` of ``folder``, once."""

    def digits() -> dict[str, np.ndarray]:
        from sklearn.datasets import load_digits

        data = load_digits()
        images = np.rint(data.images * (255 / 16)).astype(np.uint8)[..., None]
        return {"images": images, "labels": data.target.astype(str)}

    return _store("digits", folder, digits)


def keras_dataset(name: str, folder: Path) -> Path:
    """Stores one of ``KERAS`` with its official split as ``span-000`` of ``folder``, once.

    Raises:
        DataError: for an unknown name, or when the download fails; nothing is left in ``folder`` then.
    """
    if name not in KERAS:
        raise DataError(f"There is no image data set '{name}'; give a path or one of {', '.join(KERAS)}.")
    return _store(name, folder, lambda: _download(name))


def _store(name: str, folder: Path, load: Callable[[], dict[str, np.ndarray]]) -> Path:
    path = folder / "span-000" / ARCHIVE
    if path.exists():
        if str(archive(path, "name").get("name", "")) != name:
            raise DataError(f"{path} holds other data than '{name}'; choose another folder.")
        return folder
    arrays = load()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, name=name, classes=np.unique(arrays["labels"]), **arrays)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return folder


def _download(name: str) -> dict[str, np.ndarray]:
    """Train and test part of a Keras data set, one after the other. Keras deletes a half download itself."""
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_SECONDS)
    try:
        both = import_module(f"keras.datasets.{name}").load_data()
    except Exception as error:  # Keras wraps URLError in a bare Exception.
        raise DataError(
            f"The data set '{name}' could not be downloaded ({error}); "
            "give the path of a folder that holds images, or use the embedded digits."
        ) from error
    finally:
        socket.setdefaulttimeout(patience)
    images = np.concatenate([part[0] for part in both])
    return {
        "images": images if images.ndim == 4 else images[..., None],
        "labels": np.concatenate([part[1].ravel() for part in both]).astype(str),
        "part": np.repeat(["train", "test"], [len(part[0]) for part in both]),
    }
