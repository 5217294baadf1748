"""Readers by artifact type: each turns the files of an artifact into parts of a page."""

from collections.abc import Mapping

from tour.artifacts import data_readers, model_readers, serving_readers
from tour.artifacts.parts import Part, Reader, RunContext
from tour.evidence.result_types import NotHere
from tour.trace import Artifact

READERS: Mapping[str, Reader] = {
    "Examples": data_readers.examples,
    "ExampleStatistics": data_readers.example_statistics,
    "ExampleAnomalies": data_readers.anomalies,
    "Schema": data_readers.schema,
    "TransformGraph": data_readers.transform,
    "ModelRun": model_readers.training_run,
    "Comparison": model_readers.comparison,
    "ModelEvaluation": model_readers.evaluation,
    "ModelBlessing": serving_readers.blessing,
    "InfraBlessing": serving_readers.infra_blessing,
    "LiteModel": serving_readers.lite_model,
    "PushedModel": serving_readers.pushed_model,
    "Model": serving_readers.files,
    "Embedding": serving_readers.json_values,
    "Normal": serving_readers.json_values,
    "DriftReport": serving_readers.drift_report,
    "Decision": serving_readers.decision,
}


def read_parts(artifact: Artifact, context: RunContext) -> list[Part]:
    """Parts of a page about an artifact; a notice if its files are missing or damaged."""
    if not artifact.folder.is_dir():
        return [NotHere(artifact.type, "Its folder is not there any more.")]
    try:
        return list(READERS.get(artifact.type, serving_readers.json_values)(artifact, context))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return [NotHere(artifact.type, f"It cannot be read ({type(error).__name__}: {error}).")]
