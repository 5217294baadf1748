"""Image data sets with a name: scikit-learn's digits, and those that Keras downloads."""

import os
import socket
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np

from models.errors import DataError
from models.image.raw.arrays import ARCHIVE, read_archive

KERAS = ("mnist", "fashion_mnist", "cifar10", "cifar100")
DOWNLOAD_SECONDS = 10.0


def store_digits(folder: Path) -> Path:
    """Store scikit-learn's 1,797 handwritten digits, uint8 [N,8,8,1], as ``span-000`` of ``folder``, once."""

    def load_arrays() -> dict[str, np.ndarray]:
        from sklearn.datasets import load_digits

        data = load_digits()
        images = np.rint(data.images * (255 / 16)).astype(np.uint8)[..., None]
        return {"images": images, "labels": data.target.astype(str)}

    return _store("digits", folder, load_arrays)


def store_keras_dataset(name: str, folder: Path) -> Path:
    """Store one of ``KERAS`` with its official split as ``span-000`` of ``folder``, once.

    Raises:
        DataError: for an unknown name, or if the download fails; then ``folder`` is not changed.
    """
    if name not in KERAS:
        raise DataError(f"There is no image data set '{name}'; give a path or one of {', '.join(KERAS)}.")
    return _store(name, folder, lambda: _download(name))


def _store(name: str, folder: Path, load: Callable[[], dict[str, np.ndarray]]) -> Path:
    path = folder / "span-000" / ARCHIVE
    if path.exists():
        if str(read_archive(path, "name").get("name", "")) != name:
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
    """Download train and test part of a Keras data set and concatenate them. Keras deletes an incomplete download itself."""
    old_timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_SECONDS)
    try:
        parts = import_module(f"keras.datasets.{name}").load_data()
    except Exception as error:  # Keras wraps URLError in a bare Exception.
        raise DataError(
            f"The data set '{name}' could not be downloaded ({error}); "
            "give the path of a folder with images, or use the embedded digits."
        ) from error
    finally:
        socket.setdefaulttimeout(old_timeout)
    images = np.concatenate([part[0] for part in parts])
    return {
        "images": images if images.ndim == 4 else images[..., None],
        "labels": np.concatenate([part[1].ravel() for part in parts]).astype(str),
        "part": np.repeat(["train", "test"], [len(part[0]) for part in parts]),
    }
