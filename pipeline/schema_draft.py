"""A schema draft for new data: the curated schema with the string domains that SchemaGen infers."""

from pathlib import Path

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from models.errors import DataError
from pipeline import graph
from pipeline.local import runner
from pipeline.metadata import store
from pipeline.plan import Plan
from pipeline.runtime import Runtime


def draft_schema(plan: Plan, runtime: Runtime) -> str:
    """Return the draft as text; runs ExampleGen, StatisticsGen and SchemaGen as a separate run in the same store.

    Raises:
        DataError: if one of the three stages fails, with its message.
    """
    run_id = f"schema-{plan.fingerprint()}"
    ir = runner.compile_graph(graph.build_schema_draft(plan), plan.case.name, runtime, run_id)
    progress = runner.run(ir, runtime, runtime.case(plan.case.name).logs / run_id, lambda _: None)
    failures = [f"{name}: {stage.message}" for name, stage in progress.items() if stage.state not in ("done", "cached")]
    if failures:
        raise DataError(f"The schema could not be drafted: {failures[0]}")
    folder = Path(store.outputs(runtime.metadata, run_id)["SchemaGen"]["schema"].uri)
    inferred = text_format.Parse((folder / "schema.pbtxt").read_text(), schema_pb2.Schema())
    return text_format.MessageToString(merge_domains(text_format.Parse(plan.schema, schema_pb2.Schema()), inferred))


def merge_domains(curated: schema_pb2.Schema, inferred: schema_pb2.Schema) -> schema_pb2.Schema:
    """Replace the curated schema's string domains by the inferred ones; all other curated rules stay."""
    values = {feature.name: feature.domain for feature in inferred.feature if feature.HasField("domain")}
    domains = {domain.name: domain for domain in inferred.string_domain}
    for domain in curated.string_domain:
        if domain.name in values:
            del domain.value[:]
            domain.value.extend(domains[values[domain.name]].value)
    return curated
