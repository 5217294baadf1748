"""The network back from its export: the same answers, and a refusal where the code has moved on."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from support.built_case import Built, built

from models import restore
from models.catalog import CASES
from models.image import model as image
from models.input import Transform


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return built(CASES["image"], tmp_path_factory)


def test_the_model_answers_as_its_export(done: Built) -> None:
    model = restore.model(str(done.export), image, Transform(str(done.graph)))
    pixels = tf.constant(done.rows["pixels"][:50])
    loaded = tf.saved_model.load(str(done.export))
    expected = loaded.signatures["dense"](pixels=pixels)["probabilities"]
    answers = image.answers(model({"pixels": pixels}, training=False), done.point, done.settings)["probabilities"]
    assert np.allclose(answers, expected, atol=1e-6)


def test_the_settings_are_those_of_the_export(done: Built) -> None:
    assert restore.settings(str(done.export)) == json.loads(json.dumps(done.settings))


def test_other_variables_are_refused(done: Built) -> None:
    wider = SimpleNamespace(
        __name__="wider", build=lambda settings, *rest: image.build({**settings, "filters": 5}, *rest)
    )
    with pytest.raises(ValueError, match="other variables than wider builds now"):
        restore.model(str(done.export), wider, Transform(str(done.graph)))
