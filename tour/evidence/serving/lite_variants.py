"""Evidence on the LiteRT variants: their size, speed and error, and what each conversion does to the tensors."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from components.training.edge import lite_exporter
from models.errors import GateError
from serving.edge import native
from tour.evidence.context import Context, count_bytes
from tour.evidence.result_types import Number, Result, Table
from tour.evidence.serving import raw_rows
from tour.evidence.serving.edge_files import CALLS, Answers, load_rows
from tour.measure.timing import measure_seconds

OPTIONS = {
    "float32": "none",
    "dynamic": "Optimize.DEFAULT",
    "float16": "Optimize.DEFAULT, supported_types float16",
    "int8": "Optimize.DEFAULT, representative_dataset, TFLITE_BUILTINS_INT8",
}


def variants(context: Context) -> list[Result]:
    """B3: size, latency and metric of each variant, measured now, compared with the SavedModel."""
    rows, network = load_rows(context, label=True), context.network
    inputs = {name: rows[name] for name in network.INPUTS}
    signature = tf.saved_model.load(str(context.served)).signatures["dense"]
    expected = {name: value.numpy() for name, value in _call(signature, inputs).items()}
    names = ("variant", "bytes", "latency_us", "metric", "metric_loss", "difference")
    table = [tuple(variant[name] for name in names) for variant in _measure_variants(context, rows, expected)]
    first_row = {name: values[:1] for name, values in inputs.items()}
    durations = [measure_seconds(lambda: _call(signature, first_row)) for _ in range(CALLS)]
    metric = network.quality(rows[network.LABEL], _column(expected[network.SCORE]))[network.MONITOR]
    graph = count_bytes(context.served / "variables") + (context.served / "saved_model.pb").stat().st_size
    table.append(("SavedModel, all signatures", graph, float(np.median(durations)) * 1e6, metric, 0.0, 0.0))
    columns = (
        "variant",
        "bytes",
        "µs per row",
        network.MONITOR,
        f"loss of {network.MONITOR}",
        "largest difference from the SavedModel",
    )
    return [
        Table(f"Variants on {len(rows[network.LABEL])} held-out rows, one thread", columns, tuple(table)),
        *raw_rows.compare_runtimes(context),
        Number("Size of LiteRT's shared library", native.find_litert_library().stat().st_size, "bytes"),
        Number("Size of the TensorFlow package", count_bytes(Path(tf.__file__).parent), "bytes"),
    ]


def conversions(context: Context) -> list[Result]:
    """B14: options and parity of each variant, and the gate refusing an int8 model that was calibrated on zeros."""
    rows, network, gates = load_rows(context, label=True), context.network, context.settings["gates"]
    inputs = {name: rows[name] for name in network.INPUTS}
    expected = lite_exporter.run_saved_model(str(context.served), inputs)
    table = _measure_variants(context, rows, expected)
    chosen = lite_exporter.select_variant(table, gates)
    zeros = {name: np.zeros_like(values) for name, values in inputs.items()}
    content = lite_exporter.convert(str(context.served), "int8", zeros)
    miscalibrated = lite_exporter.measure_lite_variant("int8, calibrated on zeros", content, network, rows, expected)
    variant_rows = [
        (
            variant["variant"],
            OPTIONS[variant["variant"]],
            _types(context, variant["variant"]),
            variant["difference"],
            variant["metric_loss"],
            _verdict(variant, gates),
        )
        for variant in table
    ]
    variant_rows.append(
        (
            miscalibrated["variant"],
            OPTIONS["int8"],
            "",
            miscalibrated["difference"],
            miscalibrated["metric_loss"],
            _verdict(miscalibrated, gates),
        )
    )
    columns = (
        "variant",
        "converter options",
        "bytes of constants by type",
        "largest difference",
        f"loss of {network.MONITOR}",
        "gate",
    )
    return [
        Table(
            f"Variants compared with the SavedModel on {len(rows[network.LABEL])} held-out rows",
            columns,
            tuple(variant_rows),
        ),
        Number("Chosen variant: the smallest that passed", chosen),
        Number(f"Maximum loss of {network.MONITOR} that the gate allows", gates["lite_metric_loss"]),
        Number("Gate if float32 differed by twice the tolerance", _refusal(table, gates)),
        *raw_rows.list_operations(context),
    ]


def _measure_variants(context: Context, rows: Answers, expected: Answers) -> list[dict[str, Any]]:
    folder, network = context.artifact("lite_model"), context.network
    return [
        lite_exporter.measure_lite_variant(name, (folder / f"{name}.tflite").read_bytes(), network, rows, expected)
        for name in lite_exporter.VARIANTS
    ]


def _verdict(variant: Mapping[str, Any], gates: Mapping[str, Any]) -> str:
    return "passes" if variant["metric_loss"] <= gates["lite_metric_loss"] else "refused"


def _refusal(table: list[dict[str, Any]], gates: Mapping[str, Any]) -> str:
    """Message of the gate if float32 differed by twice the tolerance."""
    try:
        lite_exporter.select_variant([{**table[0], "difference": 2 * gates["lite_tolerance"]}, *table[1:]], gates)
    except GateError as error:
        return str(error)
    return "passes"


def _types(context: Context, variant: str) -> str:
    """Bytes of constant tensors in a variant's file, by dtype."""
    from ai_edge_litert import schema_py_generated as schema

    content = (context.artifact("lite_model") / f"{variant}.tflite").read_bytes()
    model, names = schema.Model.GetRootAs(content), {code: name for name, code in vars(schema.TensorType).items()}
    bytes_by_type: dict[str, int] = {}
    for tensor in _tensors(model):
        size = model.Buffers(tensor.Buffer()).DataLength()
        name = str(names[tensor.Type()]).lower()
        bytes_by_type[name] = bytes_by_type.get(name, 0) + size
    return ", ".join(
        f"{name} {size:,}" for name, size in sorted(bytes_by_type.items(), key=lambda pair: -pair[1]) if size
    )


def _tensors(model: Any) -> Iterator[Any]:
    graphs = (model.Subgraphs(index) for index in range(model.SubgraphsLength()))
    return (graph.Tensors(index) for graph in graphs for index in range(graph.TensorsLength()))


def _call(signature: Any, inputs: Answers) -> dict[str, tf.Tensor]:
    return signature(**{name: tf.constant(values) for name, values in inputs.items()})


def _column(scores: np.ndarray) -> np.ndarray:
    return scores.reshape(len(scores), -1)
