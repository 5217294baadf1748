"""Restore the Keras model from a SavedModel that the export wrote, to measure it or to start a refresh."""

import json
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from models.input import Transform
from models.network import build
from models.saved_model.files import EXTRA, WEIGHTS


def find_pretrained(model_run: Path) -> str:
    """Folder of the pretrained weights that the Trainer stored next to its record; empty if there were none."""
    folder = model_run / "pretrained"
    return str(folder) if folder.is_dir() else ""


def read_settings(path: str) -> dict[str, Any]:
    """The settings that the exported model was trained with."""
    return json.loads((Path(path) / EXTRA / "model.json").read_text())["settings"]


def restore_model(path: str, network: Any, transform: Transform, pretrained: str = "") -> keras.Model:
    """Restore the exported network as a Keras model with its weights and the state of its random generators.

    Args:
        path: The SavedModel.
        network: The case's model module.
        transform: The transform graph that the network was trained with.
        pretrained: Folder of the pretrained weights that the network was built with.

    Raises:
        ValueError: if the export's variables do not match the network that the current code builds.
    """
    keras_model = build(network, {**read_settings(path), "mixed_precision": False}, transform.features, pretrained)
    try:
        keras_model.load_weights(Path(path) / EXTRA / WEIGHTS)
    except ValueError as error:
        raise ValueError(
            f"The export's variables do not match those that {network.__name__} builds now: run the pipeline again."
        ) from error
    return keras_model


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a Keras weights file by path, sorted, without the state of random generators."""
    weights: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: weights.update({name: item[()]}) if hasattr(item, "shape") else None)
    return {name: weights[name] for name in sorted(weights) if "seed" not in name}
