"""Stops a run whose data breaks the schema; the stock validator only takes notes."""

from pathlib import Path

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import ExampleAnomalies

from models.errors import Refused

REMEDY = {
    "SCHEMA_NEW_COLUMN": "add the feature to the schema or drop it from the data",
    "SCHEMA_MISSING_COLUMN": "restore the column, or make it optional in the schema",
    "FEATURE_TYPE_LOW_FRACTION_PRESENT": "find out why values are missing, or lower min_fraction in the schema",
    "ENUM_TYPE_UNEXPECTED_STRING_VALUES": "add the new values to the feature's domain if they are right, else mend the source",
    "FLOAT_TYPE_SMALL_FLOAT": "mend or drop the rows below the minimum",
    "FLOAT_TYPE_BIG_FLOAT": "mend or drop the rows above the maximum (a wrong unit, perhaps)",
    "INT_TYPE_SMALL_INT": "mend or drop the rows below the minimum",
    "INT_TYPE_BIG_INT": "mend or drop the rows above the maximum",
}
DEFAULT_REMEDY = "mend the data, or change the schema if the data is right"


@component
def DataGate(anomalies: InputArtifact[ExampleAnomalies]):
    """Lets the run pass if no split has an anomaly.

    Raises:
        Refused: naming split, feature, rule, what was observed and what to do.
    """
    found = [line for folder in sorted(Path(anomalies.uri).glob("Split-*")) for line in _findings(folder)]
    if found:
        raise Refused("data", f"{len(found)} finding(s): " + " | ".join(found))


def _findings(folder: Path) -> list[str]:
    split = folder.name.removeprefix("Split-")
    proto = anomalies_pb2.Anomalies.FromString((folder / "SchemaDiff.pb").read_bytes())
    lines = []
    for feature, info in sorted(proto.anomaly_info.items()):
        for reason in info.reason:
            kind = anomalies_pb2.AnomalyInfo.Type.Name(reason.type)
            lines.append(
                f"feature '{feature}' in {split} breaks {kind}: {reason.description.rstrip('.')}; "
                f"{REMEDY.get(kind, DEFAULT_REMEDY)}"
            )
    if proto.HasField("dataset_anomaly_info"):
        lines += [
            f"the split {split}: {reason.description}; {DEFAULT_REMEDY}" for reason in proto.dataset_anomaly_info.reason
        ]
    return lines
