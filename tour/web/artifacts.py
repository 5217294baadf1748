"""Artifacts for people: each type has a reader that turns its folder into parts of a page."""

from collections.abc import Mapping

from tour.evidence.kinds import NotHere
from tour.trace import Artifact
from tour.web import of_data, of_models, of_serving
from tour.web.parts import Part, Reader, Sight

READERS: Mapping[str, Reader] = {
    "Examples": of_data.examples,
    "ExampleStatistics": of_data.described,
    "ExampleAnomalies": of_data.anomalies,
    "Schema": of_data.curated,
    "TransformGraph": of_data.transform,
    "ModelRun": of_models.training,
    "Comparison": of_models.comparison,
    "ModelEvaluation": of_models.evaluation,
    "ModelBlessing": of_serving.blessing,
    "InfraBlessing": of_serving.infra,
    "LiteModel": of_serving.lite,
    "PushedModel": of_serving.pushed,
    "Model": of_serving.files,
    "Embedding": of_serving.told,
    "Normal": of_serving.told,
    "DriftReport": of_serving.report,
    "Decision": of_serving.decision,
}


def parts(one: Artifact, sight: Sight) -> list[Part]:
    """What there is to see of an artifact; one that is missing or damaged says so."""
    if not one.folder.is_dir():
        return [NotHere(one.type, "Its folder is not there any more.")]
    try:
        return list(READERS.get(one.type, of_serving.told)(one, sight))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return [NotHere(one.type, f"It cannot be read ({type(error).__name__}: {error}).")]
