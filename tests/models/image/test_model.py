"""The image network and its layers: formulas in NumPy, saving and loading, settings, and the exported graph."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as lite_schema

from models.catalog import CASES
from models.image import model as image
from models.image.layers import LAYERS, Residual, Shift
from tour.evidence.serving import grappler

pytestmark = pytest.mark.system

FEATURES = {"pixels": tf.TensorSpec([None, 8, 8, 1])}
PIXELS = np.random.default_rng(1).random((16, 8, 8, 1), np.float32)


def settings(**changes: object) -> dict[str, object]:
    return {**CASES["image"].settings["training"], "filters": 4, "classes": ["a", "b", "c"], **changes}


def build_model(**changes: object) -> keras.Model:
    keras.utils.set_random_seed(3)
    return image.build(settings(**changes), FEATURES)


def convolve(hidden: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """A 3x3 convolution with zero padding in NumPy."""
    padded = np.pad(hidden, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = hidden.shape[1:3]
    return sum(padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3))


@pytest.mark.parametrize("training", [True, False])
def test_residual_block_equals_its_formula(training: bool) -> None:
    layer, x = Residual(), np.random.default_rng(2).normal(size=(5, 6, 4, 3)).astype(np.float32)
    actual, hidden = layer(x, training=training).numpy(), x
    for index, convolution in enumerate(layer.convolutions):
        hidden = convolve(np.maximum(hidden, 0) if index else hidden, convolution.kernel.numpy())
        mean, variance = (hidden.mean((0, 1, 2)), hidden.var((0, 1, 2))) if training else (0.0, 1.0)
        hidden = (hidden - mean) / np.sqrt(variance + 1e-3)
    assert np.allclose(actual, np.maximum(x + hidden, 0), atol=1e-4)
    assert actual.std() > 0.1


def test_residual_block_is_restored_from_disk_with_equal_outputs(tmp_path: Path) -> None:
    inputs = keras.Input((8, 8, 4))
    block = Residual(batch_norm=True, l2=0.01, remat=True, name="block")
    model = keras.Model(inputs, Shift(0.1, name="shift")(block(inputs)))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects=LAYERS)
    x = np.random.default_rng(3).normal(size=(2, 8, 8, 4)).astype(np.float32)
    assert np.array_equal(model(x), loaded(x)) and np.ptp(model(x)) > 0.1
    for name in ("block", "shift"):
        assert loaded.get_layer(name).get_config() == model.get_layer(name).get_config()
    assert loaded.get_layer("block").l2 == 0.01 and loaded.get_layer("block").remat
    with pytest.raises(TypeError, match="Could not locate class 'Residual'"):
        keras.models.load_model(tmp_path / "model.keras")


def test_shift_moves_by_whole_pixels_up_to_its_share_only_in_training() -> None:
    keras.utils.set_random_seed(5)
    layer, pictures = Shift(0.2), np.zeros((400, 10, 5, 2), np.float32)
    pictures[:, 5, 2] = (1.0, 2.0)
    assert layer(pictures, training=False) is not None and np.array_equal(layer(pictures, training=False), pictures)
    moved = layer(pictures, training=True).numpy()
    assert np.array_equal(moved.sum((1, 2)), pictures.sum((1, 2)))
    positions = np.argwhere(moved[..., 0] == 1)
    assert set(positions[:, 1] - 5) == {-2, -1, 0, 1, 2} and set(positions[:, 2] - 2) == {-1, 0, 1}


def test_shift_fills_with_zeros() -> None:
    keras.utils.set_random_seed(5)
    pictures = np.ones((200, 10, 10, 1), np.float32)
    moved = Shift(0.2)(pictures, training=True).numpy()
    remaining = {10 - abs(a) for a in range(-2, 3)}
    assert set(moved.sum((1, 2, 3)).astype(int)) == {a * b for a in remaining for b in remaining}


def run_steps(model: keras.Model, count: int = 3) -> tuple[list[float], list[np.ndarray]]:
    """Run a few steps of SGD without randomness; return losses and weights."""
    labels, optimizer = np.arange(16)[:, None] % 3, keras.optimizers.SGD(0.1)

    @tf.function
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(image.loss({})(labels, model({"pixels": PIXELS}, training=True)))
        optimizer.apply(tape.gradient(value, model.trainable_variables), model.trainable_variables)
        return value

    return [float(step()) for _ in range(count)], model.get_weights()


def test_rematerialisation_changes_neither_weights_nor_moments() -> None:
    plain, rematerialised = (run_steps(build_model(augment=False, dropout=0.0, remat=remat)) for remat in (False, True))
    assert np.allclose(plain[0], rematerialised[0], atol=1e-5) and plain[0][0] > plain[0][-1]
    for expected, actual in zip(plain[1], rematerialised[1], strict=True):
        assert np.allclose(expected, actual, atol=1e-5)


def test_rematerialisation_adds_convolutions_to_the_graph() -> None:
    def convolutions(remat: bool) -> int:
        model = build_model(augment=False, dropout=0.0, remat=remat)

        @tf.function
        def gradient() -> list[tf.Tensor]:
            with tf.GradientTape() as tape:
                value = tf.reduce_sum(model({"pixels": PIXELS}, training=True))
            return tape.gradient(value, model.trainable_variables)

        graph = gradient.get_concrete_function().graph
        nodes = [*graph.as_graph_def().node]
        nodes += [node for function in graph.as_graph_def().library.function for node in function.node_def]
        return sum(node.op == "Conv2D" for node in nodes)

    assert convolutions(False) == 7
    assert convolutions(True) >= 7 + 4


def test_settings_change_the_layers() -> None:
    layer_types = {type(layer) for layer in build_model(batch_norm=False)._flatten_layers()}
    assert keras.layers.BatchNormalization not in layer_types
    assert keras.layers.BatchNormalization in {type(layer) for layer in build_model()._flatten_layers()}
    assert all(
        layer.use_bias for layer in build_model(batch_norm=False)._flatten_layers() if hasattr(layer, "use_bias")
    )
    assert not build_model().losses
    penalised = build_model(l2=0.01)
    kernels = [variable for variable in penalised.trainable_variables if variable.name == "kernel"]
    assert sum(map(float, penalised.losses)) == pytest.approx(
        0.01 * sum(float(np.sum(np.square(k.numpy()))) for k in kernels), rel=1e-4
    )
    assert len(penalised.losses) == len(kernels) == 8
    assert {"shift", "erase"} < {layer.name for layer in build_model(dropout=0.0).layers}
    assert "flip" in {layer.name for layer in build_model(flip=True).layers}
    assert not {"shift", "flip", "erase"} & {layer.name for layer in build_model(flip=True, augment=False).layers}


def test_training_is_random_only_with_augmentation_or_dropout() -> None:
    inputs = {"pixels": PIXELS}
    fixed = build_model(augment=False, dropout=0.0)
    assert np.allclose(fixed(inputs, training=True), fixed(inputs, training=True), atol=1e-6)
    for changes in ({"augment": True, "dropout": 0.0}, {"augment": False, "dropout": 0.5}):
        model = build_model(**changes)
        assert not np.allclose(model(inputs, training=True), model(inputs, training=True), atol=1e-3)
        assert np.array_equal(model(inputs, training=False), model(inputs, training=False))


def export(model: keras.Model, path: Path) -> Path:
    archive = keras.export.ExportArchive()
    archive.track(model)
    spec = [{"pixels": tf.TensorSpec([None, 8, 8, 1], name="pixels")}]
    archive.add_endpoint("dense", lambda inputs: {"logits": model(inputs, training=False)}, spec)
    archive.write_out(str(path), verbose=False)
    return path


def test_export_and_lite_model_contain_no_augmentation(tmp_path: Path) -> None:
    paths = {
        switch: export(build_model(augment=switch, flip=switch), tmp_path / str(switch)) for switch in (True, False)
    }
    loaded = {switch: tf.saved_model.load(str(path)) for switch, path in paths.items()}
    # As the server runs it: Grappler removes nodes that no output needs, such as the batch size that Keras' layers compute.
    ops = {
        switch: sorted(node.op for node in grappler.optimize_with_grappler(model.signatures["dense"]).node)
        for switch, model in loaded.items()
    }
    assert ops[True] == ops[False] and ops[True].count("Conv2D") == 7
    content = tf.lite.TFLiteConverter.from_saved_model(str(paths[True]), signature_keys=["dense"]).convert()
    codes = {
        code.builtinCode
        for code in lite_schema.ModelT.InitFromObj(lite_schema.Model.GetRootAs(content, 0)).operatorCodes
    }
    allowed = lite_schema.BuiltinOperator
    assert codes <= {
        allowed.CONV_2D,
        allowed.MAX_POOL_2D,
        allowed.MEAN,
        allowed.FULLY_CONNECTED,
        allowed.ADD,
        allowed.MUL,
    }


def test_xla_compiles_a_step_with_augmentation() -> None:
    """The test has one layer of each type, as every convolution takes a second to compile."""
    pixels = keras.Input((8, 8, 1), name="pixels")
    hidden = Residual()(image.augment(pixels, settings(flip=True)))
    model = keras.Model({"pixels": pixels}, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(hidden)))

    @tf.function(jit_compile=True)
    def gradient(pixels: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(model({"pixels": pixels}, training=True))
        return tape.gradient(value, model.trainable_variables)

    assert all(np.isfinite(part).all() for part in gradient(tf.constant(PIXELS)))


@pytest.mark.slow
def test_import_registers_nothing_and_replicas_share_moments_and_augment() -> None:
    """The check runs in its own process, as logical devices have to be configured first."""
    result = subprocess.run(
        [sys.executable, "-c", MIRRORED], capture_output=True, text=True, cwd=Path(__file__).parents[3]
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.split()[-3:] == ["synchronized", "equal", "augmented"]
    assert result.stdout.split()[0] == "unregistered"


MIRRORED = """
import tensorflow as tf
cpu, two = tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
import keras, numpy as np
before = dict(keras.saving.get_custom_objects())
from models.catalog import CASES
from models.image import model as image
from models.image.layers import Residual
assert dict(keras.saving.get_custom_objects()) == before
print("unregistered")
settings = {**CASES["image"].settings["training"], "filters": 4, "classes": ["a", "b", "c"], "augment": False, "dropout": 0.0}
features = {"pixels": tf.TensorSpec([None, 8, 8, 1])}
x = np.random.default_rng(1).random((16, 8, 8, 1), np.float32)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice())
def build(scope, make=lambda: image.build(settings, features)):
    keras.utils.set_random_seed(3)
    with scope:
        model = make()
        optimizer = keras.optimizers.SGD(0.1); optimizer.build(model.trainable_variables)
    return model, optimizer
def step(model, optimizer, x):
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(image.loss({})(tf.zeros([len(x), 1], tf.int64), model({"pixels": x}, training=True))) / 16
    optimizer.apply(tape.gradient(total, model.trainable_variables), model.trainable_variables)
def run(model, optimizer, count):
    parts = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(x[8 * context.replica_id_in_sync_group:][:8]))
    train = tf.function(lambda: strategy.run(step, (model, optimizer, parts)))
    for _ in range(count): train()
import contextlib
alone, optimizer = build(contextlib.nullcontext())
for _ in range(2): step(alone, optimizer, x)
both, optimizer = build(strategy.scope())
run(both, optimizer, 2)
kinds = (Residual, keras.layers.BatchNormalization)
assert all(layer.synchronized for layer in both._flatten_layers() if isinstance(layer, kinds))
print("synchronized")
for expected, actual in zip(alone.weights, both.weights, strict=True):
    assert np.allclose(expected.numpy(), actual.numpy(), atol=1e-5), expected.path
print("equal")
def small():
    pixels = keras.Input((8, 8, 1), name="pixels")
    moved = image.augment(pixels, {**settings, "augment": True, "flip": True})
    hidden = keras.layers.Dropout(0.3)(Residual(synchronized=True, remat=True)(moved))
    small.moved = keras.Model(pixels, moved)
    return keras.Model({"pixels": pixels}, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(hidden)))
drawn, optimizer = build(strategy.scope(), small)
run(drawn, optimizer, 2)
assert all(np.isfinite(weight).all() for weight in drawn.get_weights())
moved = strategy.run(lambda: small.moved(tf.constant(x[:8]), training=True))
assert not any(np.allclose(part, x[:8]) for part in strategy.experimental_local_results(moved))
print("augmented")
"""


def test_network_stays_within_its_parameter_budget() -> None:
    default: Mapping[str, object] = {**CASES["image"].settings["training"], "classes": list("0123456789")}
    model = image.build(default, {"pixels": tf.TensorSpec([None, 28, 28, 1])})
    assert 50_000 < model.count_params() <= 500_000
