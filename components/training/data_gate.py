"""Gate that stops a run whose data violates the schema; ExampleValidator only records anomalies."""

from pathlib import Path

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import ExampleAnomalies

from models.errors import GateError

REMEDY = {
    "SCHEMA_NEW_COLUMN": "add the feature to the schema or drop it from the data",
    "SCHEMA_MISSING_COLUMN": "restore the column, or make it optional in the schema",
    "FEATURE_TYPE_LOW_FRACTION_PRESENT": "find out why values are missing, or lower min_fraction in the schema",
    "ENUM_TYPE_UNEXPECTED_STRING_VALUES": "add the new values to the feature's domain if they are right, else fix the source",
    "FLOAT_TYPE_SMALL_FLOAT": "fix or drop the rows below the minimum",
    "FLOAT_TYPE_BIG_FLOAT": "fix or drop the rows above the maximum (possibly a wrong unit)",
    "FLOAT_TYPE_HAS_NAN": "fix or drop the rows that are not a number",
    "FLOAT_TYPE_HAS_INF": "fix or drop the rows that are infinite",
    "INT_TYPE_SMALL_INT": "fix or drop the rows below the minimum",
    "INT_TYPE_BIG_INT": "fix or drop the rows above the maximum",
}
DEFAULT_REMEDY = "fix the data, or change the schema if the data is right"


@component
def DataGate(anomalies: InputArtifact[ExampleAnomalies]) -> None:
    """Stop the run if any split has an anomaly.

    Raises:
        GateError: naming the split, the feature, the rule, the observed value and the remedy.

    Question: B17
    Answer: I chain ExampleGen, statistics, schema, validation, Transform, Trainer, an Evaluator against the blessed
        model, a check that the export loads in the server, and Pusher; each stage is cached by its inputs and code. The
        point is that gates must be able to stop a run. The trap: ExampleValidator only records anomalies. Here this
        component stops the run, nothing is pushed, the old version keeps serving, and the reason is recorded.
    Evidence: tour.evidence.overview.pipeline_of_run
    Proof: tests/components/training/test_data_gate.py::test_one_finding_in_one_split_refuses
    """
    folders = sorted(Path(anomalies.uri).glob("Split-*"))
    findings = [line for folder in folders for line in _list_findings(folder)]
    if not folders:
        raise GateError("data", f"no split was validated: {anomalies.uri} is empty; run again with --fresh.")
    if findings:
        raise GateError("data", f"{len(findings)} finding(s): " + " | ".join(findings))


def _list_findings(folder: Path) -> list[str]:
    split = folder.name.removeprefix("Split-")
    proto = anomalies_pb2.Anomalies.FromString((folder / "SchemaDiff.pb").read_bytes())
    lines = [f"the split {split} has no example; {DEFAULT_REMEDY}"] if proto.data_missing else []
    for feature, info in sorted(proto.anomaly_info.items()):
        lines += [f"feature '{feature}' in {split} {line}" for line in _describe_reasons(info)]
    if proto.HasField("dataset_anomaly_info"):
        lines += [f"the split {split} {line}" for line in _describe_reasons(proto.dataset_anomaly_info)]
    return lines


def _describe_reasons(info: anomalies_pb2.AnomalyInfo) -> list[str]:
    """Rule, observed value and remedy of each anomaly; one without a reason is reported by its description."""
    reasons = info.reason or [info.Reason(description=info.description)]
    kinds = [anomalies_pb2.AnomalyInfo.Type.Name(reason.type) for reason in reasons]
    return [
        f"breaks {kind}: {reason.description.rstrip('.')}; {REMEDY.get(kind, DEFAULT_REMEDY)}"
        for kind, reason in zip(kinds, reasons, strict=True)
    ]
