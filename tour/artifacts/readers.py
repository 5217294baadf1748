"""Readers by artifact type: each turns the files of an artifact into parts of a page."""

from collections.abc import Mapping

from tour.artifacts import data, models, serving
from tour.artifacts.parts import Part, Reader, Sight
from tour.evidence.result_types import NotHere
from tour.trace import Artifact

READERS: Mapping[str, Reader] = {
    "Examples": data.examples,
    "ExampleStatistics": data.described,
    "ExampleAnomalies": data.anomalies,
    "Schema": data.curated,
    "TransformGraph": data.transform,
    "ModelRun": models.training,
    "Comparison": models.comparison,
    "ModelEvaluation": models.evaluation,
    "ModelBlessing": serving.blessing,
    "InfraBlessing": serving.infra,
    "LiteModel": serving.lite,
    "PushedModel": serving.pushed,
    "Model": serving.files,
    "Embedding": serving.told,
    "Normal": serving.told,
    "DriftReport": serving.report,
    "Decision": serving.decision,
}


def parts(artifact: Artifact, context: Sight) -> list[Part]:
    """Parts of a page about an artifact; a notice if its files are missing or damaged."""
    if not artifact.folder.is_dir():
        return [NotHere(artifact.type, "Its folder is not there any more.")]
    try:
        return list(READERS.get(artifact.type, serving.told)(artifact, context))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return [NotHere(artifact.type, f"It cannot be read ({type(error).__name__}: {error}).")]
