"""Weight hashes: equal for equal weights wherever they lie, other for any other bit."""

from pathlib import Path

import keras
import numpy as np
import pytest
from support.built_case import Built, built

from models.catalog import CASES
from models.digests import saved_weights_digest, weights_digest


@pytest.fixture(scope="module", params=list(CASES))
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return built(CASES[request.param], tmp_path_factory)


def test_an_export_has_the_digest_of_the_model_it_was_made_of(done: Built) -> None:
    assert saved_weights_digest(done.export) == weights_digest(done.fitted.model)


def test_one_flipped_bit_in_any_weight_is_another_digest(done: Built) -> None:
    model = done.fitted.model
    before, weights = weights_digest(model), model.get_weights()
    for number in range(len(weights)):
        other = [one.copy() for one in weights]
        other[number].reshape(-1).view(np.uint8)[-1] ^= 1
        model.set_weights(other)
        assert weights_digest(model) != before, model.weights[number].path
    model.set_weights(weights)
    assert weights_digest(model) == before


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
