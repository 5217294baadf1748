"""Evidence on losses and encoders: losses of the served model's predictions, and the gain from sequence or image encoders."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.data.class_names import list_classes
from tour.evidence import benchmark_reports
from tour.evidence.context import Context
from tour.evidence.result_types import Number, Result, Table

ROWS, TRAIN, HELD, BATCH, EPOCHS, PLAIN_EPOCHS = 8192, 20_000, 10_000, 512, 3, 10
GAMMAS = (0.0, 1.0, 2.0)
WEIGHTS = (1.0, 10.0)
SEQUENCE = {"GRU over the sequence": "gru", "dense layers over the sequence": "dense", "no sequence": "none"}


def prediction_losses(context: Context) -> list[Result]:
    """A16: losses of the served model's predictions on eval, for binary decisions or for classes."""
    network = context.network
    rows = context.labelled_rows("eval", ROWS)
    answers = context.answer(rows)
    if "loss" in context.case.limits:
        return decision_losses(network, rows[network.LABEL][:, 0], answers["score"], answers["anomaly"])
    return [class_losses(rows[network.LABEL][:, 0], answers[network.SCORE])]


def decision_losses(network: Any, truth: np.ndarray, scores: np.ndarray, errors: np.ndarray) -> list[Result]:
    """The network's losses of scores ``[rows]`` by class weight and gamma: mean, share of positives and of the easier half."""
    logits = np.log(np.clip(scores, 1e-7, 1 - 1e-7)) - np.log1p(-np.clip(scores, 1e-7, 1 - 1e-7))
    outputs = tf.constant(np.stack([logits, np.zeros_like(logits)], axis=1), tf.float32)
    rows = []
    for weight in WEIGHTS:
        for gamma in GAMMAS:
            settings = {"loss": "focal" if gamma else "weighted", "focal_gamma": gamma, "positive_weight": weight}
            losses = network.loss(settings)(tf.constant(truth[:, None], tf.float32), outputs).numpy()
            easy_share = np.sort(losses)[: len(losses) // 2].sum() / losses.sum()
            rows.append(
                (weight, gamma, float(losses.mean()), float(losses[truth == 1].sum() / losses.sum()), float(easy_share))
            )
    columns = ("weight of a positive", "focal gamma", "mean loss", "share of the positives", "share of the easier half")
    return [
        Table("Cross-entropy of the served scores on eval, and its parts", columns, tuple(rows)),
        Number("Share of positives in the rows", float(truth.mean() * 100), "%"),
        Table(
            "Squared reconstruction error of the autoencoder",
            ("rows", "median"),
            tuple((name, float(np.median(errors[truth == y]))) for name, y in (("negative", 0), ("positive", 1))),
        ),
        saturated_loss(),
    ]


def class_losses(truth: np.ndarray, probabilities: np.ndarray) -> Table:
    """Sparse categorical cross-entropy for right and wrong predictions, and for equal probabilities of all classes."""
    losses = -np.log(np.maximum(np.take_along_axis(probabilities, truth[:, None], axis=1)[:, 0], 1e-12))
    wrong = probabilities.argmax(axis=1) != truth
    rows = (
        ("all", len(losses), float(losses.mean())),
        ("right", int((~wrong).sum()), float(losses[~wrong].mean()) if (~wrong).any() else 0.0),
        ("wrong", int(wrong.sum()), float(losses[wrong].mean()) if wrong.any() else 0.0),
        ("equal probabilities", len(losses), float(np.log(probabilities.shape[1]))),
    )
    return Table("Sparse categorical cross-entropy on eval", ("predictions", "pictures", "mean loss"), rows)


def saturated_loss() -> Table:
    """Loss of a confident wrong answer, from the logit and from its probability in float32, which saturates."""
    rows = []
    for logit in (10.0, 50.0, 200.0):
        z = tf.constant([logit])
        exact = float(tf.nn.sigmoid_cross_entropy_with_logits(tf.constant([0.0]), z)[0])
        rows.append((logit, exact, float(-tf.math.log(1.0 - tf.sigmoid(z))[0])))
    return Table(
        "Loss of a negative that is classified as positive",
        ("logit", "loss from logits", "loss from probability"),
        tuple(rows),
    )


def encoder_gain(context: Context) -> list[Result]:
    """A17: the receptive field and gain of the convolutions, or the parameters and gain of the sequence encoder."""
    network = context.network
    if "past_encoder" in context.case.limits:
        return [sequence_encoders(context), benchmark_of_variants(context), sequence_encoder_gain(context)]
    model = network.build(context.training["settings"], context.transform.features, context.pretrained)
    return [receptive_field(model), compare_with_dense_layers(context, model.count_params())]


def receptive_field(model: keras.Model) -> Table:
    """Receptive field of each layer's output: it grows by (kernel - 1) times the product of the strides before it."""
    field, stride, rows = 1, 1, []
    for layer in _windows(model.layers):
        kernel = getattr(layer, "kernel_size", None) or layer.pool_size
        field += (kernel[0] - 1) * stride
        stride *= layer.strides[0]
        rows.append((layer.name, layer.count_params(), f"{field} x {field}"))
    return Table("Receptive field of each layer", ("layer", "parameters", "pixels"), tuple(rows))


def _windows(layers: Iterable[keras.layers.Layer]) -> Iterator[keras.layers.Layer]:
    """Yield convolutions and poolings in the order of the data, including those in blocks and in a pretrained base."""
    for layer in layers:
        if hasattr(layer, "kernel_size") or hasattr(layer, "pool_size"):
            yield layer
        else:
            yield from _windows(getattr(layer, "convolutions", ()) or getattr(layer, "layers", ()))


def compare_with_dense_layers(context: Context, parameters: int) -> Table:
    """Compare the served network with dense layers of about as many parameters, trained now on the same pictures."""
    network = context.network
    train, evaluated = context.labelled_rows("train", TRAIN), context.labelled_rows("eval", HELD)
    (name,) = network.INPUTS
    started, kinds = time.perf_counter(), len(list_classes(context.settings["data"]))
    plain = _plain(train[name].shape[1:], kinds, parameters)
    keras.utils.set_random_seed(1)
    plain.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    plain.fit(train[name], train[network.LABEL], 64, PLAIN_EPOCHS, verbose=0)
    seconds = time.perf_counter() - started
    outputs = context.answer(evaluated)[network.SCORE], plain(evaluated[name], training=False).numpy()
    served_metric, plain_metric = (
        network.quality(evaluated[network.LABEL], scores)[network.MONITOR] for scores in outputs
    )
    rows = (
        ("convolutions (served model)", parameters, served_metric, ""),
        (f"dense layers, trained now for {PLAIN_EPOCHS} epochs", plain.count_params(), plain_metric, seconds),
    )
    return Table(
        "Network with and without convolutions, on eval",
        ("network", "parameters", network.MONITOR, "training, s"),
        rows,
    )


def _plain(shape: tuple[int, ...], kinds: int, parameters: int) -> keras.Model:
    """Two dense layers of equal width w, with (inputs + w + kinds) w + ... parameters; w is solved for ``parameters``."""
    inputs = int(np.prod(shape))
    width = max(8, round((np.sqrt((inputs + kinds) ** 2 + 4 * parameters) - inputs - kinds) / 2))
    layers = [keras.layers.Flatten(), *(keras.layers.Dense(width, "relu") for _ in range(2)), keras.layers.Dense(kinds)]
    return keras.Sequential([keras.Input(shape), *layers])


def sequence_encoders(context: Context) -> Table:
    """Parameters of every encoder of a row's past, as the difference from a model without one."""
    network, settings, features = context.network, context.settings["training"], context.transform.features
    length = int(features["past"].shape[1])
    encoders: Any = context.case.limits["past_encoder"]  # choices, not a range
    count = {name: _build(network, settings, features, past_encoder=name).count_params() for name in encoders}
    rows = tuple((name, length, count[name], count[name] - count["none"]) for name in encoders)
    columns = ("encoder", "sequence length", "parameters of the model", "parameters of the encoder")
    return Table("Sequence encoders", columns, rows)


def benchmark_of_variants(context: Context) -> Result:
    """The benchmark's results, with their date."""
    report = benchmark_reports.read(context.case.name).get("choice")
    if not report:
        return benchmark_reports.not_measured(context.case.name, "Benchmark of variants")
    rows = tuple((row["variant"], row["valid"], row["eval"], row["seconds"]) for row in report["rows"])
    title = f"Benchmark: mean PR-AUC over {len(report['seeds'])} generator seeds, measured {report['date']}"
    return Table(title, ("variant", "valid", "eval", "seconds"), rows)


def sequence_encoder_gain(context: Context) -> Table:
    """Train small networks with and without a sequence encoder on part of the train split; evaluate them on valid."""
    network = context.network
    train, valid = context.labelled_rows("train", TRAIN), context.labelled_rows("valid", HELD)
    settings = {**context.settings["training"], "members": 1, "frequencies": 0, "width": 32}
    rows = []
    for name, encoder in SEQUENCE.items():
        started = time.perf_counter()
        model = _build(network, settings, context.transform.features, past_encoder=encoder)
        _fit(network, model, settings, train)
        outputs = model({n: tf.constant(valid[n]) for n in network.INPUTS}, training=False).numpy()
        area = network.quality(valid[network.LABEL], outputs)["pr_auc"]
        rows.append((name, area, time.perf_counter() - started))
    return Table(
        f"PR-AUC on valid, trained now for {EPOCHS} epochs on {len(train[network.LABEL]):,} rows",
        ("variant", "PR-AUC", "s"),
        tuple(rows),
    )


def _fit(network: Any, model: keras.Model, settings: Mapping[str, Any], train: Mapping[str, np.ndarray]) -> None:
    keras.utils.set_random_seed(1)
    model.compile(keras.optimizers.Adam(settings["learning_rate"]), network.loss(settings), jit_compile=False)
    model.fit({n: train[n] for n in network.INPUTS}, train[network.LABEL], BATCH, EPOCHS, verbose=0)


def _build(
    network: Any, settings: Mapping[str, Any], features: Mapping[str, tf.TensorSpec], **changes: Any
) -> keras.Model:
    keras.utils.set_random_seed(1)
    return network.build({**settings, **changes}, features)
