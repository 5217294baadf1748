"""Losses on the served model's own predictions, and what an encoder of sequences or of pictures brings."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.fraud import model as fraud
from tour.evidence import benchmark_reports
from tour.evidence.context import Context
from tour.evidence.result_types import Number, Result, Table

ROWS, TRAIN, HELD, BATCH, EPOCHS, PLAIN_EPOCHS = 8192, 20_000, 10_000, 512, 3, 10
GAMMAS = (0.0, 1.0, 2.0)
WEIGHTS = (1.0, 10.0)
SEQUENCE = {"GRU over the sequence": "gru", "dense layers over the sequence": "dense", "no sequence": "none"}


def on_predictions(context: Context) -> list[Result]:
    """A16: losses of the served model's answers on eval; for yes or no by weight and focus, for classes by from_logits."""
    network = context.case.load("model")
    rows = context.rows("eval", (*network.INPUTS, network.LABEL), ROWS)
    answers = _answers(context, network, rows)
    if hasattr(network, "LOSSES"):
        return decisions(rows[network.LABEL][:, 0], answers["score"], answers["anomaly"])
    return [classes(rows[network.LABEL][:, 0], answers[network.SCORE])]


def decisions(truth: np.ndarray, scores: np.ndarray, errors: np.ndarray) -> list[Result]:
    """Binary losses of scores ``[rows]``: the mean, how much of it frauds are, and the share of the easy half."""
    logits = np.log(np.clip(scores, 1e-7, 1 - 1e-7)) - np.log1p(-np.clip(scores, 1e-7, 1 - 1e-7))
    outputs = tf.constant(np.stack([logits, np.zeros_like(logits)], axis=1), tf.float32)
    rows = []
    for weight in WEIGHTS:
        for gamma in GAMMAS:
            settings = {"loss": "focal" if gamma else "weighted", "focal_gamma": gamma, "positive_weight": weight}
            each = fraud.loss(settings)(tf.constant(truth[:, None], tf.float32), outputs).numpy()
            easy = np.sort(each)[: len(each) // 2].sum() / each.sum()
            rows.append((weight, gamma, float(each.mean()), float(each[truth == 1].sum() / each.sum()), float(easy)))
    columns = ("weight of a fraud", "focus", "mean loss", "share of frauds", "share of the easier half")
    return [
        Table("Cross-entropy of the served scores on eval", columns, tuple(rows)),
        Number("Share of frauds among the rows", float(truth.mean() * 100), "%"),
        Table(
            "Squared error of the autoencoder",
            ("purchases", "median"),
            tuple((name, float(np.median(errors[truth == y]))) for name, y in (("honest", 0), ("fraud", 1))),
        ),
        saturated(),
    ]


def classes(truth: np.ndarray, probabilities: np.ndarray) -> Table:
    """Sparse categorical cross-entropy of class indices and probabilities, by truth; and of a model that knows nothing."""
    each = -np.log(np.maximum(np.take_along_axis(probabilities, truth[:, None], axis=1)[:, 0], 1e-12))
    wrong = probabilities.argmax(axis=1) != truth
    rows = (
        ("all", len(each), float(each.mean())),
        ("right", int((~wrong).sum()), float(each[~wrong].mean()) if (~wrong).any() else 0.0),
        ("wrong", int(wrong.sum()), float(each[wrong].mean()) if wrong.any() else 0.0),
        ("all classes equal", len(each), float(np.log(probabilities.shape[1]))),
    )
    return Table("Sparse categorical cross-entropy on eval", ("pictures", "count", "mean loss"), rows)


def saturated() -> Table:
    """Why logits: the loss of a certain and wrong answer, from the logit and from its probability in float32."""
    rows = []
    for logit in (10.0, 50.0, 200.0):
        z = tf.constant([logit])
        exact = float(tf.nn.sigmoid_cross_entropy_with_logits(tf.constant([0.0]), z)[0])
        rows.append((logit, exact, float(-tf.math.log(1.0 - tf.sigmoid(z))[0])))
    return Table("An honest purchase called fraud", ("logit", "loss from logits", "loss from probability"), tuple(rows))


def encoders(context: Context) -> list[Result]:
    """A17: the convolutional network's parameters and receptive field, or the sequence encoder's and what it brings."""
    network = context.case.load("model")
    if hasattr(network, "ENCODERS"):
        return [sequence(context), measured(), gain(context)]
    model = network.build(context.training["settings"], context.transform.features, context.pretrained)
    return [receptive(model), without_convolution(context, model.count_params())]


def receptive(model: keras.Model) -> Table:
    """What one number of each layer's output sees of the picture: grows by (kernel - 1) times the strides before it."""
    seen, stride, rows = 1, 1, []
    for layer in _windows(model.layers):
        kernel = getattr(layer, "kernel_size", None) or layer.pool_size
        seen += (kernel[0] - 1) * stride
        stride *= layer.strides[0]
        rows.append((layer.name, layer.count_params(), f"{seen} x {seen}"))
    return Table("Receptive field", ("layer", "parameters", "pixels seen"), tuple(rows))


def _windows(layers: Iterable[keras.layers.Layer]) -> Iterator[keras.layers.Layer]:
    """The convolutions and poolings in the order of the data, those inside blocks and inside a pretrained base too."""
    for layer in layers:
        if hasattr(layer, "kernel_size") or hasattr(layer, "pool_size"):
            yield layer
        else:
            yield from _windows(getattr(layer, "convolutions", ()) or getattr(layer, "layers", ()))


def without_convolution(context: Context, parameters: int) -> Table:
    """The served network beside dense layers of about as many parameters, trained now on the same pictures."""
    network = context.case.load("model")
    keep = (*network.INPUTS, network.LABEL)
    train, held = context.rows("train", keep, TRAIN), context.rows("eval", keep, HELD)
    (name,) = network.INPUTS
    started, kinds = time.perf_counter(), len(context.settings["data"]["classes"].split(","))
    plain = _plain(train[name].shape[1:], kinds, parameters)
    keras.utils.set_random_seed(1)
    plain.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    plain.fit(train[name], train[network.LABEL], 64, PLAIN_EPOCHS, verbose=0)
    seconds = time.perf_counter() - started
    served = network.quality(held[network.LABEL], _answers(context, network, held)[network.SCORE])[network.MONITOR]
    other = network.quality(held[network.LABEL], plain(held[name], training=False).numpy())[network.MONITOR]
    rows = (
        ("convolutions, served", parameters, served, ""),
        (f"dense layers, {PLAIN_EPOCHS} epochs now", plain.count_params(), other, seconds),
    )
    return Table("With and without convolutions, on eval", ("network", "parameters", network.MONITOR, "s"), rows)


def _plain(shape: tuple[int, ...], kinds: int, parameters: int) -> keras.Model:
    """Two dense layers of equal width w: (inputs + w + kinds) w + ..., solved for about ``parameters``."""
    inputs = int(np.prod(shape))
    width = max(8, round((np.sqrt((inputs + kinds) ** 2 + 4 * parameters) - inputs - kinds) / 2))
    layers = [keras.layers.Flatten(), *(keras.layers.Dense(width, "relu") for _ in range(2)), keras.layers.Dense(kinds)]
    return keras.Sequential([keras.Input(shape), *layers])


def sequence(context: Context) -> Table:
    """Parameters of every encoder of the last purchases, as the difference to a model without."""
    settings, features = context.settings["training"], context.transform.features
    length = int(features["past"].shape[1])
    count = {one: _built(settings, features, past_encoder=one).count_params() for one in fraud.ENCODERS}
    rows = tuple((one, length, count[one], count[one] - count["none"]) for one in fraud.ENCODERS)
    return Table("Encoders of the sequence", ("encoder", "steps", "parameters of the model", "of the sequence"), rows)


def measured() -> Result:
    """The benchmark's figures, with their date."""
    told = benchmark_reports.read("fraud").get("choice")
    if not told:
        return benchmark_reports.missing("fraud", "Benchmark of variants")
    rows = tuple((one["variant"], one["valid"], one["eval"], one["seconds"]) for one in told["rows"])
    title = f"Mean PR-AUC over {len(told['seeds'])} generator seeds, measured {told['date']}"
    return Table(title, ("variant", "valid", "eval", "seconds"), rows)


def gain(context: Context) -> Table:
    """With and without a sequence encoder: small networks trained now on part of the train split, scored on valid."""
    keep = (*fraud.INPUTS, fraud.LABEL)
    train, valid = context.rows("train", keep, TRAIN), context.rows("valid", keep, HELD)
    settings = {**context.settings["training"], "members": 1, "frequencies": 0, "width": 32}
    rows = []
    for name, encoder in SEQUENCE.items():
        started = time.perf_counter()
        model = _built(settings, context.transform.features, past_encoder=encoder)
        _fit(model, settings, train)
        outputs = model({n: tf.constant(valid[n]) for n in fraud.INPUTS}, training=False).numpy()
        area = fraud.quality(valid[fraud.LABEL], outputs)["pr_auc"]
        rows.append((name, area, time.perf_counter() - started))
    return Table(
        f"Trained now for {EPOCHS} epochs on {len(train[fraud.LABEL]):,} rows", ("variant", "pr_auc", "s"), tuple(rows)
    )


def _fit(model: keras.Model, settings: Mapping[str, Any], train: Mapping[str, np.ndarray]) -> None:
    keras.utils.set_random_seed(1)
    model.compile(keras.optimizers.Adam(settings["learning_rate"]), fraud.loss(settings), jit_compile=False)
    model.fit({n: train[n] for n in fraud.INPUTS}, train[fraud.LABEL], BATCH, EPOCHS, verbose=0)


def _built(settings: Mapping[str, Any], features: Mapping[str, tf.TensorSpec], **changes: Any) -> keras.Model:
    keras.utils.set_random_seed(1)
    return fraud.build({**settings, **changes}, features)


def _answers(context: Context, network: Any, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    loaded = tf.saved_model.load(str(context.served))
    answers = loaded.signatures["dense"](**{name: tf.constant(rows[name]) for name in network.INPUTS})
    return {name: value.numpy() for name, value in answers.items()}
