"""What of TensorFlow's surface in production a run has used, and where TensorFlow stands among what it used."""

from collections.abc import Mapping

from pipeline import store
from tour.evidence.context import Context
from tour.evidence.kinds import Number, Result, Table

# Stages that can refuse a candidate.
GATES = ("DataGate", "FitGate", "Evaluator", "LiteExporter", "ServingCheck")
# What each library is for; the first two columns of the map that an interviewer would have you draw.
PLACES = {
    "tensorflow": "computes: tensors, gradients, graphs, devices",
    "keras": "models, on TensorFlow here, and on PyTorch or JAX elsewhere",
    "tensorflow-data-validation": "looks at data before anything learns from them",
    "tensorflow-transform": "learns preprocessing that ships with the model",
    "tensorflow-model-analysis": "evaluates by slice, against the model before",
    "tensorflow-metadata": "schemas and statistics that the others share",
    "tensorflow-serving-api": "the interface of the server",
    "apache-beam": "carries passes over all data, on one machine or many",
    "tfx-bsl": "joins Beam and TensorFlow",
    "ml-metadata": "remembers what was made of what",
    "ai-edge-litert": "runs models on devices",
    "tfx": "orders the stages",
    "lightgbm": "not TensorFlow: boosted trees to compare with",
    "scikit-learn": "not TensorFlow: linear models to compare with",
}


def production_surface(context: Context) -> list[Result]:
    """B1: what the run and the version that it pushed have beyond a trained network, counted."""
    rows = tuple((part, count, what) for part, (count, what) in _counted(context).items())
    used = sum(count > 0 for _, count, _ in rows)
    return [
        Table("What a served model needs beside its weights", ("part", "count", "what is counted"), rows),
        Number("Parts that this run used", used, f"of {len(rows)}"),
    ]


def _counted(context: Context) -> Mapping[str, tuple[int, str]]:
    from google.protobuf import text_format
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow_metadata.proto.v0 import schema_pb2

    schema = text_format.Parse((context.artifact("schema") / "schema.pbtxt").read_text(), schema_pb2.Schema())
    saved = saved_model_pb2.SavedModel.FromString((context.served / "saved_model.pb").read_bytes())
    signatures = [name for name in saved.meta_graphs[0].signature_def if not name.startswith("__")]
    extra = context.served / "assets.extra"
    states = store.stage_states(context.metadata, context.run.id)
    return {
        "data validation": (len(schema.feature), "features that a schema bounds"),
        "transform with the model": (len(context.transform.features), "features that the exported graph makes of raw ones"),
        "gates": (sum(name in states for name in GATES), "stages that could have refused it"),
        "serving": (len(signatures), f"signatures: {', '.join(sorted(signatures))}"),
        "warm-up": (int((extra / "tf_serving_warmup_requests").is_file()), "files of requests that are run before it answers"),
        "edge": (len(list(context.served.glob("*.tflite"))), "models for devices"),
        "browser": (int((extra / "one_row.tflite").is_file()), "models that a page runs"),
        "lineage": (sum(len(made) for made in context.outputs.values()), "artifacts whose making is recorded"),
    }


def ecosystem(context: Context) -> list[Result]:
    """B25: the libraries under the nodes of the run, what each is for, and how many of them are not TensorFlow's."""
    from tour.evidence import overview

    nodes, _ = overview.graph_of(overview.plan_of(context))
    used = sorted({name for libraries in nodes.values() for name in libraries})
    rows = tuple((name, PLACES[name], sum(name in libraries for libraries in nodes.values())) for name in used)
    others = sum(PLACES[name].startswith("not TensorFlow") for name in used)
    return [
        Table("Libraries of the run", ("library", "what it is for", "nodes"), rows),
        Number("Of them from outside TensorFlow, to compare with", others, f"of {len(used)}"),
    ]
