"""Evidence on raw rows, strings included, answered by the SavedModel and by LiteRT."""

import json
from collections import Counter
from functools import partial

import numpy as np
import tensorflow as tf

from components.training.edge import raw_signature
from serving.edge import raw_model
from serving.server.loading.litert_signatures import replace_calls
from serving.server.loading.saved_model_session import SavedModelSession
from tour.evidence.context import Context
from tour.evidence.result_types import NotHere, Result, Table
from tour.measure.timing import median_seconds

TITLE = "Raw rows by LiteRT"
ROWS = 500
SIZES = (1, 8, 64)
SECONDS = 0.08


def compare_runtimes(context: Context, model: SavedModelSession | None = None) -> list[Result]:
    """Measure latency and difference of ``model_raw.tflite`` and of the SavedModel, as the server calls them.

    The rows are held out; they count as they are, with all words missing, and with words that are in no vocabulary.
    """
    content = raw_model.read_passed(context.served)
    if content is None:
        return [NotHere(TITLE, explain_absence(context))]
    loaded = model or SavedModelSession(context.served)
    try:
        signature = loaded.signatures[raw_model.SIGNATURE]
        lite_signature = replace_calls({signature.name: signature}, content)[signature.name]
        rows = read_raw_rows(context)
        arrays = [rows[name] for name in signature.inputs]
        expected, table = signature.call(arrays), []
        for name, way in (("SavedModel in a session", signature), ("LiteRT, model_raw.tflite", lite_signature)):
            times = [median_seconds(partial(way.call, [values[:size] for values in arrays]), SECONDS) for size in SIZES]
            pairs = zip(way.call(arrays), expected, strict=True)
            difference = max(float(np.abs(answer - exact).max()) for answer, exact in pairs)
            table.append((name, *(round(1e6 * seconds) for seconds in times), difference))
    finally:
        if model is None:
            loaded.close()
    columns = ("runtime", *(f"batch of {size}, us" for size in SIZES), "largest difference from the SavedModel")
    return [
        Table(
            f"Raw rows, {len(arrays[0])} with in-vocabulary, missing and out-of-vocabulary words", columns, tuple(table)
        )
    ]


def list_operations(context: Context) -> list[Result]:
    """Count the operations of ``model_raw.tflite`` by type; all are LiteRT's own."""
    from ai_edge_litert import schema_py_generated as schema

    content = raw_model.read_passed(context.served)
    if content is None:
        return [NotHere("The raw signature in LiteRT", explain_absence(context))]
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    model = schema.Model.GetRootAs(content)
    codes = [names[model.OperatorCodes(index).BuiltinCode()] for index in range(model.OperatorCodesLength())]
    graphs = [model.Subgraphs(index) for index in range(model.SubgraphsLength())]
    counts = Counter(
        codes[graph.Operators(index).OpcodeIndex()] for graph in graphs for index in range(graph.OperatorsLength())
    )
    return [Table("Operations of model_raw.tflite", ("operation", "count"), tuple(counts.most_common()))]


def explain_absence(context: Context) -> str:
    """Return why the pushed version has no raw signature for LiteRT."""
    record = json.loads((context.served / raw_model.RECORD).read_text()).get("raw", {})
    return record.get("missing", "The run was made before LiteExporter converted raw rows; run the pipeline again.")


def read_raw_rows(context: Context) -> dict[str, np.ndarray]:
    """Read the first rows of eval as inputs of ``raw``, and again without words and with unknown words."""
    serialized = next(iter(tf.data.TFRecordDataset(context.shards("eval")).batch(ROWS)))
    specs = tf.saved_model.load(str(context.served)).signatures[raw_model.SIGNATURE].structured_input_signature[1]
    return raw_signature.add_unseen_words(raw_signature.parse_raw(specs, serialized))
