"""Evidence on custom layers: their configuration and weights, and the served network saved, loaded and compared."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from tour.evidence.context import Context
from tour.evidence.network.architecture import input_rows, served_network, weight_norm
from tour.evidence.result_types import NotHere, Number, Result, Table


def custom_layer(context: Context) -> list[Result]:
    """B11: custom layers: their configuration and weights, and the served network saved, loaded and compared now."""
    model = served_network(context)
    custom_layers = {
        type(layer).__name__: layer for layer in model.layers if type(layer).__module__.startswith("models.")
    }
    if not custom_layers:
        return [NotHere("No custom layers", f"The network of {context.case.name} uses only layers of Keras.")]
    settings_by_layer = {
        name: {key: value for key, value in layer.get_config().items() if key not in _common()}
        for name, layer in custom_layers.items()
    }
    configs = tuple(
        (name, key, str(value)) for name, config in settings_by_layer.items() for key, value in config.items()
    )
    weights = [
        (name, len(type(layer).from_config(layer.get_config()).weights), len(layer.weights), weight_norm(layer))
        for name, layer in custom_layers.items()
    ]
    difference, error = round_trip(
        model, {name: type(layer) for name, layer in custom_layers.items()}, input_rows(context, 16)
    )
    return [
        Table("Configuration that get_config returns and __init__ accepts", ("layer", "argument", "value"), configs),
        Table(
            "Number of weights", ("layer", "after __init__", "after build", "norm in the served model"), tuple(weights)
        ),
        Number("Largest difference between logits after save and load", difference),
        Number("Loading without custom_objects", error),
    ]


def round_trip(model: keras.Model, classes: Mapping[str, type], x: Mapping[str, np.ndarray]) -> tuple[float, str]:
    """Save and load a model; return the largest difference between the outputs and the error of loading without its classes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        loaded = keras.models.load_model(path, custom_objects=dict(classes))
        difference = float(np.max(np.abs(model(dict(x), training=False) - loaded(dict(x), training=False))))
        try:
            keras.models.load_model(path)
            return difference, "works"
        except Exception as error:  # Keras raises several classes of errors here
            message = str(error).partition("Could not locate class")
            return difference, f"{type(error).__name__}: {''.join(message[1:])[:40] or message[0][:80]}"


def _common() -> set[str]:
    """Keys that the configuration of every layer has."""
    return set(keras.layers.Layer().get_config())
