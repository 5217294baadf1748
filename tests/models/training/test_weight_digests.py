"""Weight digests: equal for equal weights, different for any changed bit."""

from pathlib import Path

import keras
import numpy as np
import pytest

from models.training.weight_digests import saved_weights_digest, weights_digest


def create_model(units: int = 3) -> keras.Model:
    keras.utils.set_random_seed(1)
    x = keras.Input([4])
    return keras.Model(x, keras.layers.Dense(units)(keras.layers.Dropout(0.5)(keras.layers.Dense(units)(x))))


def create_biased(layer: int) -> keras.Model:
    """All zeros but the bias of one of the two dense layers: only the order of equal arrays differs."""
    model = create_model()
    model.set_weights(
        [np.full_like(weight, number == 2 * layer + 1) for number, weight in enumerate(model.get_weights())]
    )
    return model


def test_layer_numbers_and_draws_of_dropout_do_not_count_but_shape_and_order_do() -> None:
    first, second = create_model(), create_model()
    assert {w.path for w in first.weights}.isdisjoint(w.path for w in second.weights)
    assert weights_digest(first) == weights_digest(second)
    second(np.ones([1, 4]), training=True)
    assert weights_digest(first) == weights_digest(second) != weights_digest(create_model(2))
    assert weights_digest(create_biased(0)) != weights_digest(create_biased(1))


def test_folder_without_a_saved_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no variables of a SavedModel"):
        saved_weights_digest(tmp_path)
