"""The metadata server answers the calls of Kubeflow's launcher, so that one store serves both.

The calls, their order and the errors that the launcher expects are those of ``backend/src/v2/metadata/client.go`` in
kubeflow/pipelines: types without properties, a filter on a custom property, page tokens, parameters as structs.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as protos
from ml_metadata.proto import metadata_store_service_pb2_grpc as service

from pipeline.metadata import store, store_server
from pipeline.metadata.store_address import MetadataAddress
from pipeline.run import Run

pytestmark = pytest.mark.system

PIPELINE, RUN = "system.Pipeline", "system.PipelineRun"
CONTAINER, DAG = "system.ContainerExecution", "system.DAGExecution"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[MetadataAddress]:
    server, port = store_server.serve(MetadataAddress(tmp_path / "m.sqlite"), 0, "127.0.0.1")
    yield MetadataAddress(f"grpc://127.0.0.1:{port}")
    server.stop(None)


@pytest.fixture
def stub(address: MetadataAddress) -> Iterator[Any]:
    with grpc.insecure_channel(address.server.removeprefix("grpc://")) as channel:
        yield service.MetadataStoreServiceStub(channel)


def text(value: str) -> mlmd.Value:
    return mlmd.Value(string_value=value)


def get_or_insert_context(stub: Any, name: str, type_name: str, properties: dict[str, mlmd.Value]) -> mlmd.Context:
    """As the launcher does: the type is inserted if it is not found, the context by its type and name."""
    try:
        type_id = stub.GetContextType(protos.GetContextTypeRequest(type_name=type_name)).context_type.id
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND
        kind = mlmd.ContextType(name=type_name)
        type_id = stub.PutContextType(protos.PutContextTypeRequest(context_type=kind)).type_id
    answer = stub.GetContextByTypeAndName(protos.GetContextByTypeAndNameRequest(type_name=type_name, context_name=name))
    if answer.HasField("context"):
        return answer.context
    context = mlmd.Context(name=name, type_id=type_id, custom_properties=properties)
    stub.PutContexts(protos.PutContextsRequest(contexts=[context]))
    return stub.GetContextByTypeAndName(
        protos.GetContextByTypeAndNameRequest(type_name=type_name, context_name=name)
    ).context


def begin_run(stub: Any, run: str) -> list[mlmd.Context]:
    """Return the contexts of pipeline and run, the one the parent of the other."""
    pipeline = get_or_insert_context(stub, "fraud", PIPELINE, {})
    properties = {"namespace": text("kubeflow"), "pipeline_root": text("minio://mlpipeline/v2/artifacts")}
    context = get_or_insert_context(stub, run, RUN, properties)
    request = protos.GetParentContextsByContextRequest(context_id=context.id)
    if not stub.GetParentContextsByContext(request).contexts:
        pair = mlmd.ParentContext(child_id=context.id, parent_id=pipeline.id)
        stub.PutParentContexts(protos.PutParentContextsRequest(parent_contexts=[pair]))
    assert [parent.id for parent in stub.GetParentContextsByContext(request).contexts] == [pipeline.id]
    return [pipeline, context]


def create_execution(
    stub: Any, contexts: list[mlmd.Context], kind: str, name: str, parent: int = 0, **properties: mlmd.Value
) -> mlmd.Execution:
    type_id = stub.PutExecutionType(
        protos.PutExecutionTypeRequest(execution_type=mlmd.ExecutionType(name=kind))
    ).type_id
    values = {"task_name": text(name), "display_name": text(name), **properties}
    values |= {"parent_dag_id": mlmd.Value(int_value=parent)} if parent else {}
    execution = mlmd.Execution(
        type_id=type_id,
        name=f"{contexts[1].name}/{name}",
        last_known_state=mlmd.Execution.RUNNING,
        custom_properties=values,
    )
    answer = stub.PutExecution(protos.PutExecutionRequest(execution=execution, contexts=contexts))
    (stored,) = stub.GetExecutionsByID(protos.GetExecutionsByIDRequest(execution_ids=[answer.execution_id])).executions
    return stored


def test_run_of_the_launcher_is_stored_and_found_beside_ours(address: MetadataAddress, stub: Any) -> None:
    ours = Run("ours", "fraud", "pushed", "version 1", "f", {"version": "1"})
    store.save(address, ours)
    contexts = begin_run(stub, "run-1")
    assert begin_run(stub, "run-1") == contexts  # each pod of the run asks again
    dag = create_execution(stub, contexts, DAG, "")
    inputs = struct_pb2.Struct()
    inputs.update({"run": "run-1", "root": "s3://bucket/home"})
    task = create_execution(stub, contexts, CONTAINER, "trainer", dag.id, inputs=mlmd.Value(struct_value=inputs))
    assert dict(task.custom_properties["inputs"].struct_value) == {"run": "run-1", "root": "s3://bucket/home"}
    publish(stub, contexts, task)
    check_execution(stub, contexts, dag, task)
    assert store.runs(address) == [ours]


def publish(stub: Any, contexts: list[mlmd.Context], task: mlmd.Execution) -> None:
    """Record an output artifact, then the end of the task with it and an output parameter."""
    kind = stub.PutArtifactType(protos.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name="system.Model")))
    answer = stub.GetArtifactType(protos.GetArtifactTypeRequest(type_name="system.Model"))
    assert answer.artifact_type.id == kind.type_id
    artifact = mlmd.Artifact(type_id=kind.type_id, uri="minio://a/model", state=mlmd.Artifact.LIVE)
    artifact.custom_properties["display_name"].string_value = "model"
    (number,) = stub.PutArtifacts(protos.PutArtifactsRequest(artifacts=[artifact])).artifact_ids
    outputs = struct_pb2.Struct()
    outputs.update({"accuracy": 0.97})
    task.last_known_state = mlmd.Execution.COMPLETE
    task.custom_properties["outputs"].struct_value.CopyFrom(outputs)
    event = mlmd.Event(type=mlmd.Event.OUTPUT, artifact_id=number, path={"steps": [{"key": "model"}]})
    pair = protos.PutExecutionRequest.ArtifactAndEvent(event=event)
    stub.PutExecution(protos.PutExecutionRequest(execution=task, contexts=contexts, artifact_event_pairs=[pair]))


def check_execution(stub: Any, contexts: list[mlmd.Context], dag: mlmd.Execution, task: mlmd.Execution) -> None:
    """Look the task up in every way in which the launcher does."""
    by_name = stub.GetExecutionByTypeAndName(
        protos.GetExecutionByTypeAndNameRequest(type_name=CONTAINER, execution_name="run-1/trainer")
    ).execution
    assert by_name.id == task.id and by_name.last_known_state == mlmd.Execution.COMPLETE
    assert by_name.custom_properties["outputs"].struct_value["accuracy"] == 0.97
    for query, expected in (
        (f"custom_properties.parent_dag_id.int_value = {dag.id}", {task.id}),
        ("", {dag.id, task.id}),
    ):
        options = mlmd.ListOperationOptions(filter_query=query, next_page_token="")
        answer = stub.GetExecutionsByContext(
            protos.GetExecutionsByContextRequest(context_id=contexts[1].id, options=options)
        )
        assert {execution.id for execution in answer.executions} == expected and not answer.next_page_token
    answer = stub.GetContextsByExecution(protos.GetContextsByExecutionRequest(execution_id=task.id)).contexts
    assert {context.id for context in answer} == {context.id for context in contexts}
    (event,) = stub.GetEventsByExecutionIDs(protos.GetEventsByExecutionIDsRequest(execution_ids=[task.id])).events
    assert event.type == mlmd.Event.OUTPUT and event.path.steps[0].key == "model"
    request = protos.GetEventsByArtifactIDsRequest(artifact_ids=[event.artifact_id])
    assert [other.execution_id for other in stub.GetEventsByArtifactIDs(request).events] == [task.id]
    by_uri = stub.GetArtifactsByURI(protos.GetArtifactsByURIRequest(uris=["minio://a/model"])).artifacts
    by_id = stub.GetArtifactsByID(protos.GetArtifactsByIDRequest(artifact_ids=[event.artifact_id])).artifacts
    assert list(by_uri) == list(by_id) and by_id[0].custom_properties["display_name"].string_value == "model"
    holders = stub.GetContextsByArtifact(protos.GetContextsByArtifactRequest(artifact_id=event.artifact_id)).contexts
    assert {context.id for context in holders} == {context.id for context in contexts}


def test_second_insertion_at_the_same_time_is_told_as_the_launcher_expects(stub: Any) -> None:
    contexts = begin_run(stub, "run-1")
    pair = mlmd.ParentContext(child_id=contexts[1].id, parent_id=contexts[0].id)
    with pytest.raises(grpc.RpcError) as error:
        stub.PutParentContexts(protos.PutParentContextsRequest(parent_contexts=[pair]))
    assert error.value.code() == grpc.StatusCode.ALREADY_EXISTS
    with pytest.raises(grpc.RpcError) as error:
        stub.PutContexts(protos.PutContextsRequest(contexts=[mlmd.Context(name="run-1", type_id=contexts[1].type_id)]))
    assert error.value.code() == grpc.StatusCode.ALREADY_EXISTS
