"""Compile the graph to a Kubeflow Pipelines spec: one task per node, each run by TFX's launcher in its own pod.

TFX's Kubeflow runner writes specs for Vertex AI, whose resolvers and schema version the open-source backend rejects. A task
of ours avoids them: it builds the same graph and lets the launcher run one node, so that spans, the blessed model and the
cache are resolved by the same code as on one machine.
"""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.catalog import CASES
from pipeline.kubeflow import backend_rules, task
from pipeline.kubeflow.deployment import Deployment
from pipeline.plan import RunRequest

FIRST_TASK = "Begin"
LAST_TASK = "End"


def compile_to(path: Path, request: RunRequest, deployment: Deployment) -> list[str]:
    """Write the spec of a request's pipeline; return the names of its tasks.

    Raises:
        ValueError: if the deployment names a node that the graph does not have, or the backend would reject the spec.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise ValueError(f"A pipeline spec is a YAML file; '{path.name}' has to end in .yaml.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TFX and Kubeflow's SDK call deprecated functions of protobuf
        nodes = find_upstream_nodes(request)
        _check_nodes(deployment, nodes)
        from kfp import compiler

        compiler.Compiler().compile(_make_pipeline(request, nodes, deployment), str(path))
    backend_rules.check_spec(path)
    return [FIRST_TASK, *nodes, LAST_TASK]


def find_upstream_nodes(request: RunRequest) -> dict[str, list[str]]:
    """Return the upstream nodes of every node, by node name, in TFX's topological order."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    from tfx.orchestration import pipeline as tfx_pipeline

    from pipeline import graph

    nodes = [stage.node for stage in graph.build(task.outline_plan(request))]
    components = tfx_pipeline.Pipeline(request.case.name, "/root", components=nodes).components
    return {node.id: sorted(upstream_node.id for upstream_node in node.upstream_nodes) for node in components}


def _check_nodes(deployment: Deployment, nodes: Mapping[str, Sequence[str]]) -> None:
    """Check that every node in the deployment file exists in the graph of some case.

    One deployment file serves all cases, and not every graph has every node.
    """
    if set(deployment.nodes) <= {FIRST_TASK, *nodes, LAST_TASK}:
        return
    known_nodes = [
        name for case in CASES.values() for name in find_upstream_nodes(RunRequest(case, tune=bool(case.space)))
    ]
    if unknown := sorted(set(deployment.nodes) - {FIRST_TASK, *nodes, *known_nodes, LAST_TASK}):
        raise ValueError(f"The graph has no node '{unknown[0]}'; it has {', '.join(dict.fromkeys(known_nodes))}.")


def begin(request: str, run: str, root: str, metadata: str, tracking: str) -> None:
    """Task: make the plan. The function's source is embedded in the spec, so it imports what it needs itself."""
    from pipeline.kubeflow.task import KubeflowTask

    KubeflowTask(run, root, metadata, tracking).begin(request)


def node(name: str, run: str, root: str, metadata: str, tracking: str, flink: str) -> None:
    """Task: run one node of the graph."""
    from pipeline.kubeflow.task import KubeflowTask

    KubeflowTask(run, root, metadata, tracking, flink).node(name)


def end(run: str, root: str, metadata: str, tracking: str) -> None:
    """Task: record the outcome of the run."""
    from pipeline.kubeflow.task import KubeflowTask

    KubeflowTask(run, root, metadata, tracking).end()


def _make_pipeline(request: RunRequest, nodes: Mapping[str, Sequence[str]], deployment: Deployment) -> Any:
    from kfp import dsl

    request_json = task.dump_request(request)

    @dsl.pipeline(name=request.case.name, description=request.case.title)
    def pipeline(
        request: str = request_json,
        root: str = deployment.root,
        metadata: str = deployment.metadata,
        tracking: str = deployment.tracking,
        flink: str = deployment.flink,
    ) -> None:
        common_arguments = {
            "root": root,
            "metadata": metadata,
            "tracking": tracking,
            "run": dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        }
        tasks = {FIRST_TASK: _make_task(begin, FIRST_TASK, deployment, request=request, **common_arguments)}
        for name, upstream_nodes in nodes.items():
            tasks[name] = _make_task(node, name, deployment, name=name, flink=flink, **common_arguments)
            tasks[name].after(*(tasks[upstream_node] for upstream_node in upstream_nodes or [FIRST_TASK]))
        leaves = set(nodes) - {name for upstream_nodes in nodes.values() for name in upstream_nodes}
        _make_task(end, LAST_TASK, deployment, **common_arguments).after(*(tasks[name] for name in sorted(leaves)))

    return pipeline


def _make_task(function: Callable[..., None], task_name: str, deployment: Deployment, **arguments: Any) -> Any:
    from kfp import dsl
    from kfp import kubernetes as pods

    component = dsl.component(function, base_image=deployment.image, install_kfp_package=False)
    component.component_spec.name = to_kubernetes_name(task_name)
    resources = deployment.resources_for(task_name)
    # TFX's cache covers inputs and code and reruns a comparison when the blessed model changes; Kubeflow's does neither.
    kfp_task = component(**arguments).set_display_name(task_name).set_caching_options(False)
    kfp_task.set_retry(
        deployment.retries_for(task_name), backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="600s"
    )
    kfp_task.set_cpu_request(resources.cpu).set_cpu_limit(resources.cpu_limit or resources.cpu)
    kfp_task.set_memory_request(resources.memory).set_memory_limit(resources.memory_limit or resources.memory)
    if resources.accelerators:
        kfp_task.set_accelerator_type(resources.accelerator).set_accelerator_limit(str(resources.accelerators))
    for key, value in resources.selector.items():
        pods.add_node_selector(kfp_task, key, value)
    for key, value in deployment.environment.items():
        kfp_task.set_env_variable(key, value)
    for variable, secret in deployment.secrets.items():
        pods.use_secret_as_env(kfp_task, secret.secret, {secret.key: variable}, optional=secret.optional)
    if deployment.volume:
        pods.mount_pvc(kfp_task, deployment.volume, deployment.root)
    pods.set_security_context(kfp_task, run_as_user=deployment.user, run_as_non_root=True)
    return kfp_task


def to_kubernetes_name(name: str) -> str:
    """Convert a node's name to a Kubernetes name: ``SpanExampleGen`` becomes ``span-example-gen``."""
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")
