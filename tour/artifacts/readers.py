"""Readers by artifact type: each turns the files of an artifact into parts of a page."""

from collections.abc import Mapping

from tour.artifacts import data, models, serving
from tour.artifacts.parts import Part, Reader, RunContext
from tour.evidence.result_types import NotHere
from tour.trace import Artifact

READERS: Mapping[str, Reader] = {
    "Examples": data.examples,
    "ExampleStatistics": data.example_statistics,
    "ExampleAnomalies": data.anomalies,
    "Schema": data.schema,
    "TransformGraph": data.transform,
    "ModelRun": models.training_run,
    "Comparison": models.comparison,
    "ModelEvaluation": models.evaluation,
    "ModelBlessing": serving.blessing,
    "InfraBlessing": serving.infra_blessing,
    "LiteModel": serving.lite_model,
    "PushedModel": serving.pushed_model,
    "Model": serving.files,
    "Embedding": serving.json_values,
    "Normal": serving.json_values,
    "DriftReport": serving.drift_report,
    "Decision": serving.decision,
}


def read_parts(artifact: Artifact, context: RunContext) -> list[Part]:
    """Parts of a page about an artifact; a notice if its files are missing or damaged."""
    if not artifact.folder.is_dir():
        return [NotHere(artifact.type, "Its folder is not there any more.")]
    try:
        return list(READERS.get(artifact.type, serving.json_values)(artifact, context))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return [NotHere(artifact.type, f"It cannot be read ({type(error).__name__}: {error}).")]
