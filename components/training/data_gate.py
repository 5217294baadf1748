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
def DataGate(anomalies: InputArtifact[ExampleAnomalies]) -> None:
    """Lets the run pass if no split has an anomaly.

    Raises:
        Refused: naming split, feature, rule, what was observed and what to do.

    Question: B17
    Answer: ExampleGen, statistics, schema, validation, Transform, Trainer, Evaluator against the blessed model, a check
        that the export loads as the server loads it, Pusher; each cached by its inputs and code. Every gate has to be
        able to refuse. ExampleValidator only records anomalies, so this component stops the run: nothing is pushed, the
        old version goes on being served, and the reason is kept.
    Evidence: tour.evidence.overview.pipeline_of_run
    Proof: tests/components/training/test_data_gate.py::test_one_finding_in_one_split_refuses
    """
    folders = sorted(Path(anomalies.uri).glob("Split-*"))
    found = [line for folder in folders for line in _findings(folder)]
    if not folders:
        raise Refused("data", f"no split was validated: {anomalies.uri} is empty; run again with --fresh.")
    if found:
        raise Refused("data", f"{len(found)} finding(s): " + " | ".join(found))


def _findings(folder: Path) -> list[str]:
    split = folder.name.removeprefix("Split-")
    proto = anomalies_pb2.Anomalies.FromString((folder / "SchemaDiff.pb").read_bytes())
    lines = [f"the split {split} has no example; {DEFAULT_REMEDY}"] if proto.data_missing else []
    for feature, info in sorted(proto.anomaly_info.items()):
        lines += [f"feature '{feature}' in {split} {line}" for line in _reasons(info)]
    if proto.HasField("dataset_anomaly_info"):
        lines += [f"the split {split} {line}" for line in _reasons(proto.dataset_anomaly_info)]
    return lines


def _reasons(info: anomalies_pb2.AnomalyInfo) -> list[str]:
    """Rule, observation and remedy; a finding counts even where it gives no reason."""
    reasons = info.reason or [info.Reason(description=info.description)]
    kinds = [anomalies_pb2.AnomalyInfo.Type.Name(reason.type) for reason in reasons]
    return [
        f"breaks {kind}: {reason.description.rstrip('.')}; {REMEDY.get(kind, DEFAULT_REMEDY)}"
        for kind, reason in zip(kinds, reasons, strict=True)
    ]
