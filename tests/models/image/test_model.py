"""The image network and its layers: formulas in NumPy, save and load, switches, and what is left of them in the export."""

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
from tour.evidence.serving import saved_model_parts

pytestmark = pytest.mark.system

FEATURES = {"pixels": tf.TensorSpec([None, 8, 8, 1])}
PIXELS = np.random.default_rng(1).random((16, 8, 8, 1), np.float32)


def settings(**changes: object) -> dict[str, object]:
    return {**CASES["image"].settings["training"], "filters": 4, "classes": "a,b,c", **changes}


def made(**changes: object) -> keras.Model:
    keras.utils.set_random_seed(3)
    return image.build(settings(**changes), FEATURES)


def convolved(hidden: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """A 3x3 convolution with zeros around, written out."""
    padded = np.pad(hidden, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = hidden.shape[1:3]
    return sum(padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3))


@pytest.mark.parametrize("training", [True, False])
def test_the_block_is_its_formula(training: bool) -> None:
    layer, x = Residual(), np.random.default_rng(2).normal(size=(5, 6, 4, 3)).astype(np.float32)
    found, hidden = layer(x, training=training).numpy(), x
    for place, convolution in enumerate(layer.convolutions):
        hidden = convolved(np.maximum(hidden, 0) if place else hidden, convolution.kernel.numpy())
        mean, variance = (hidden.mean((0, 1, 2)), hidden.var((0, 1, 2))) if training else (0.0, 1.0)
        hidden = (hidden - mean) / np.sqrt(variance + 1e-3)
    assert np.allclose(found, np.maximum(x + hidden, 0), atol=1e-4)
    assert found.std() > 0.1


def test_the_block_comes_back_from_disk_and_answers_equally(tmp_path: Path) -> None:
    inputs = keras.Input((8, 8, 4))
    block = Residual(batch_norm=True, l2=0.01, remat=True, name="block")
    model = keras.Model(inputs, Shift(0.1, name="shift")(block(inputs)))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", custom_objects=LAYERS)
    x = np.random.default_rng(3).normal(size=(2, 8, 8, 4)).astype(np.float32)
    assert np.array_equal(model(x), again(x)) and np.ptp(model(x)) > 0.1
    for name in ("block", "shift"):
        assert again.get_layer(name).get_config() == model.get_layer(name).get_config()
    assert again.get_layer("block").l2 == 0.01 and again.get_layer("block").remat
    with pytest.raises(TypeError, match="Could not locate class 'Residual'"):
        keras.models.load_model(tmp_path / "model.keras")


def test_a_shift_moves_by_whole_pixels_up_to_its_share_while_training_and_not_otherwise() -> None:
    keras.utils.set_random_seed(5)
    layer, pictures = Shift(0.2), np.zeros((400, 10, 5, 2), np.float32)
    pictures[:, 5, 2] = (1.0, 2.0)
    assert layer(pictures, training=False) is not None and np.array_equal(layer(pictures, training=False), pictures)
    moved = layer(pictures, training=True).numpy()
    assert np.array_equal(moved.sum((1, 2)), pictures.sum((1, 2)))
    places = np.argwhere(moved[..., 0] == 1)
    assert set(places[:, 1] - 5) == {-2, -1, 0, 1, 2} and set(places[:, 2] - 2) == {-1, 0, 1}


def test_what_is_moved_out_is_gone_and_zeros_come_in() -> None:
    keras.utils.set_random_seed(5)
    pictures = np.ones((200, 10, 10, 1), np.float32)
    moved = Shift(0.2)(pictures, training=True).numpy()
    left = {10 - abs(a) for a in range(-2, 3)}
    assert set(moved.sum((1, 2, 3)).astype(int)) == {a * b for a in left for b in left}


def steps(model: keras.Model, count: int = 3) -> tuple[list[float], list[np.ndarray]]:
    """Losses and weights of a few steps of SGD without chance."""
    labels, optimizer = np.arange(16)[:, None] % 3, keras.optimizers.SGD(0.1)

    @tf.function
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(image.loss({})(labels, model({"pixels": PIXELS}, training=True)))
        optimizer.apply(tape.gradient(value, model.trainable_variables), model.trainable_variables)
        return value

    return [float(step()) for _ in range(count)], model.get_weights()


def test_computing_a_block_again_changes_neither_weights_nor_moments() -> None:
    plain, again = (steps(made(augment=False, dropout=0.0, remat=remat)) for remat in (False, True))
    assert np.allclose(plain[0], again[0], atol=1e-5) and plain[0][0] > plain[0][-1]
    for one, other in zip(plain[1], again[1], strict=True):
        assert np.allclose(one, other, atol=1e-5)


def test_computing_a_block_again_is_in_the_graph() -> None:
    def convolutions(remat: bool) -> int:
        model = made(augment=False, dropout=0.0, remat=remat)

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


def test_the_switches_act() -> None:
    kinds = {type(layer) for layer in made(batch_norm=False)._flatten_layers()}
    assert keras.layers.BatchNormalization not in kinds
    assert keras.layers.BatchNormalization in {type(layer) for layer in made()._flatten_layers()}
    assert all(layer.use_bias for layer in made(batch_norm=False)._flatten_layers() if hasattr(layer, "use_bias"))
    assert not made().losses
    penalised = made(l2=0.01)
    kernels = [one for one in penalised.trainable_variables if one.name == "kernel"]
    assert sum(map(float, penalised.losses)) == pytest.approx(
        0.01 * sum(float(np.sum(np.square(k.numpy()))) for k in kernels), rel=1e-4
    )
    assert len(penalised.losses) == len(kernels) == 8
    assert {"shift", "erase"} < {layer.name for layer in made(dropout=0.0).layers}
    assert "flip" in {layer.name for layer in made(flip=True).layers}
    assert not {"shift", "flip", "erase"} & {layer.name for layer in made(flip=True, augment=False).layers}


def test_training_is_by_chance_only_where_it_is_asked_for() -> None:
    inputs = {"pixels": PIXELS}
    fixed = made(augment=False, dropout=0.0)
    assert np.allclose(fixed(inputs, training=True), fixed(inputs, training=True), atol=1e-6)
    for changes in ({"augment": True, "dropout": 0.0}, {"augment": False, "dropout": 0.5}):
        model = made(**changes)
        assert not np.allclose(model(inputs, training=True), model(inputs, training=True), atol=1e-3)
        assert np.array_equal(model(inputs, training=False), model(inputs, training=False))


def exported(model: keras.Model, path: Path) -> Path:
    archive = keras.export.ExportArchive()
    archive.track(model)
    spec = [{"pixels": tf.TensorSpec([None, 8, 8, 1], name="pixels")}]
    archive.add_endpoint("dense", lambda inputs: {"logits": model(inputs, training=False)}, spec)
    archive.write_out(str(path), verbose=False)
    return path


def test_nothing_of_the_augmentation_is_left_in_the_export_or_on_the_edge(tmp_path: Path) -> None:
    paths = {on: exported(made(augment=on, flip=on), tmp_path / str(on)) for on in (True, False)}
    loaded = {on: tf.saved_model.load(str(path)) for on, path in paths.items()}
    # As the server runs it: Grappler takes away what no answer needs, such as the batch's size that Keras' layers ask for.
    ops = {
        on: sorted(node.op for node in saved_model_parts.grappled(one.signatures["dense"]).node)
        for on, one in loaded.items()
    }
    assert ops[True] == ops[False] and ops[True].count("Conv2D") == 7
    content = tf.lite.TFLiteConverter.from_saved_model(str(paths[True]), signature_keys=["dense"]).convert()
    codes = {
        code.builtinCode
        for code in lite_schema.ModelT.InitFromObj(lite_schema.Model.GetRootAs(content, 0)).operatorCodes
    }
    known = lite_schema.BuiltinOperator
    assert codes <= {known.CONV_2D, known.MAX_POOL_2D, known.MEAN, known.FULLY_CONNECTED, known.ADD, known.MUL}


def test_xla_compiles_a_step_with_augmentation() -> None:
    """Of the network's layers one of each kind, as every convolution takes a second to compile."""
    pixels = keras.Input((8, 8, 1), name="pixels")
    hidden = Residual()(image.augmented(pixels, settings(flip=True)))
    model = keras.Model({"pixels": pixels}, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(hidden)))

    @tf.function(jit_compile=True)
    def gradient(pixels: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(model({"pixels": pixels}, training=True))
        return tape.gradient(value, model.trainable_variables)

    assert all(np.isfinite(one).all() for one in gradient(tf.constant(PIXELS)))


@pytest.mark.slow
def test_importing_registers_nothing_and_replicas_share_their_moments_and_augment() -> None:
    """In a process of its own, as logical devices have to be made before anything else."""
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED], capture_output=True, text=True, cwd=Path(__file__).parents[3]
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[-3:] == ["synchronized", "equal", "augmented"]
    assert done.stdout.split()[0] == "unregistered"


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
settings = {**CASES["image"].settings["training"], "filters": 4, "classes": "a,b,c", "augment": False, "dropout": 0.0}
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
for one, other in zip(alone.weights, both.weights, strict=True):
    assert np.allclose(one.numpy(), other.numpy(), atol=1e-5), one.path
print("equal")
def small():
    pixels = keras.Input((8, 8, 1), name="pixels")
    moved = image.augmented(pixels, {**settings, "augment": True, "flip": True})
    hidden = keras.layers.Dropout(0.3)(Residual(synchronized=True, remat=True)(moved))
    small.moved = keras.Model(pixels, moved)
    return keras.Model({"pixels": pixels}, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(hidden)))
drawn, optimizer = build(strategy.scope(), small)
run(drawn, optimizer, 2)
assert all(np.isfinite(one).all() for one in drawn.get_weights())
moved = strategy.run(lambda: small.moved(tf.constant(x[:8]), training=True))
assert not any(np.allclose(one, x[:8]) for one in strategy.experimental_local_results(moved))
print("augmented")
"""


def test_the_network_stays_within_its_budget_of_parameters() -> None:
    default: Mapping[str, object] = {**CASES["image"].settings["training"], "classes": ",".join("0123456789")}
    model = image.build(default, {"pixels": tf.TensorSpec([None, 28, 28, 1])})
    assert 50_000 < model.count_params() <= 500_000
