"""Artifacts for people: each type has a reader that turns its folder into parts of a page."""

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


def parts(one: Artifact, sight: Sight) -> list[Part]:
    """What there is to see of an artifact; one that is missing or damaged says so."""
    if not one.folder.is_dir():
        return [NotHere(one.type, "Its folder is not there any more.")]
    try:
        return list(READERS.get(one.type, serving.told)(one, sight))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return [NotHere(one.type, f"It cannot be read ({type(error).__name__}: {error}).")]
