"""Weight hashes: equal for equal weights wherever they lie, other for any other bit."""

from pathlib import Path

import keras
import numpy as np
import pytest

from models.training.weight_digests import saved_weights_digest, weights_digest


def small(units: int = 3) -> keras.Model:
    keras.utils.set_random_seed(1)
    x = keras.Input([4])
    return keras.Model(x, keras.layers.Dense(units)(keras.layers.Dropout(0.5)(keras.layers.Dense(units)(x))))


def biased(layer: int) -> keras.Model:
    """All zeros but the bias of one of the two dense layers: what differs is where equal arrays lie."""
    model = small()
    model.set_weights([np.full_like(one, number == 2 * layer + 1) for number, one in enumerate(model.get_weights())])
    return model


def test_layer_numbers_and_draws_of_dropout_do_not_count_but_shape_and_order_do() -> None:
    one, two = small(), small()
    assert {w.path for w in one.weights}.isdisjoint(w.path for w in two.weights)
    assert weights_digest(one) == weights_digest(two)
    two(np.ones([1, 4]), training=True)
    assert weights_digest(one) == weights_digest(two) != weights_digest(small(2))
    assert weights_digest(biased(0)) != weights_digest(biased(1))


def test_a_folder_that_is_no_saved_model_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no variables of a SavedModel"):
        saved_weights_digest(tmp_path)
