"""A Keras model again, from a SavedModel of ours: what an export has no need of, and a measurement or a refresh has."""

import json
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from models.input import Transform
from models.network import build
from models.saved_model.files import EXTRA, WEIGHTS


def pretrained(model_run: Path) -> str:
    """Folder of what the network was built with, as the Trainer keeps it beside its record; empty if it had nothing."""
    folder = model_run / "pretrained"
    return str(folder) if folder.is_dir() else ""


def settings(path: str) -> dict[str, Any]:
    """The settings that the exported model was trained with."""
    return json.loads((Path(path) / EXTRA / "model.json").read_text())["settings"]


def model(path: str, network: Any, transform: Transform, pretrained: str = "") -> keras.Model:
    """The exported network as a Keras model with its weights, state of random generators included.

    Args:
        path: The SavedModel.
        network: The case's model module.
        transform: The transform graph that the network was trained with.
        pretrained: Folder of weights that the network was built with.

    Raises:
        ValueError: if the export's variables are not those of the network that the code builds now.
    """
    built = build(network, {**settings(path), "mixed_precision": False}, transform.features, pretrained)
    try:
        built.load_weights(Path(path) / EXTRA / WEIGHTS)
    except ValueError as error:
        raise ValueError(
            f"The export holds other variables than {network.__name__} builds now: run the pipeline again."
        ) from error
    return built


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file of Keras weights by path, sorted; without what random generators count."""
    found: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, one: found.update({name: one[()]}) if hasattr(one, "shape") else None)
    return {name: found[name] for name in sorted(found) if "seed" not in name}
