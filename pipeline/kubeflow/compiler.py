"""The graph as a spec for Kubeflow Pipelines: a task a node, each run by TFX's own launcher in a pod of its own.

TFX's runner for Kubeflow writes specs for Vertex AI, whose resolvers and schema version the open-source backend refuses. A task
of ours needs nothing of that: it builds the same graph and has the launcher run one node, so that spans, the blessed model and
the cache are resolved by the code that resolves them on one machine.
"""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.catalog import CASES
from pipeline.kubeflow import backend_rules, task
from pipeline.kubeflow.deployment import Deployment
from pipeline.plan import Request

FIRST, LAST = "Begin", "End"


def compile_to(path: Path, request: Request, deployment: Deployment) -> list[str]:
    """Writes the spec of a request's pipeline; returns the names of its tasks.

    Raises:
        ValueError: if the deployment names a node that the graph has not, or the backend would not take the spec.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise ValueError(f"A pipeline spec is a YAML file; '{path.name}' has to end in .yaml.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on calls of protobuf that are old, in TFX and in Kubeflow's SDK
        nodes = upstream(request)
        _known(deployment, nodes)
        from kfp import compiler

        compiler.Compiler().compile(_pipeline(request, nodes, deployment), str(path))
    backend_rules.check(path)
    return [FIRST, *nodes, LAST]


def upstream(request: Request) -> dict[str, list[str]]:
    """The names of the graph's nodes, each with those before it, as TFX orders them."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    from tfx.orchestration import pipeline as tfx_pipeline

    from pipeline import graph

    components = [stage.node for stage in graph.build(task.outline(request))]
    ordered = tfx_pipeline.Pipeline(request.case.name, "/root", components=components).components
    return {node.id: sorted(one.id for one in node.upstream_nodes) for node in ordered}


def _known(deployment: Deployment, nodes: Mapping[str, Sequence[str]]) -> None:
    """Not every graph has every node, and the deployment is for all: only a name that none has is a mistake."""
    if set(deployment.nodes) <= {FIRST, *nodes, LAST}:
        return
    every = [name for case in CASES.values() for name in upstream(Request(case, tune=bool(case.space)))]
    if strangers := sorted(set(deployment.nodes) - {FIRST, *nodes, *every, LAST}):
        raise ValueError(f"The graph has no node '{strangers[0]}'; it has {', '.join(dict.fromkeys(every))}.")


def begin(request: str, run: str, root: str, metadata: str, tracking: str) -> None:
    """Task: settles the plan. Its source travels in the spec, so it imports what it needs itself."""
    from pipeline.kubeflow.task import Task

    Task(run, root, metadata, tracking).begin(request)


def node(name: str, run: str, root: str, metadata: str, tracking: str, flink: str) -> None:
    """Task: one node of the graph."""
    from pipeline.kubeflow.task import Task

    Task(run, root, metadata, tracking, flink).node(name)


def end(run: str, root: str, metadata: str, tracking: str) -> None:
    """Task: what came of the run."""
    from pipeline.kubeflow.task import Task

    Task(run, root, metadata, tracking).end()


def _pipeline(request: Request, nodes: Mapping[str, Sequence[str]], deployment: Deployment) -> Any:
    from kfp import dsl

    told = task.told(request)

    @dsl.pipeline(name=request.case.name, description=request.case.title)
    def pipeline(
        request: str = told,
        root: str = deployment.root,
        metadata: str = deployment.metadata,
        tracking: str = deployment.tracking,
        flink: str = deployment.flink,
    ) -> None:
        place = {"root": root, "metadata": metadata, "tracking": tracking, "run": dsl.PIPELINE_JOB_ID_PLACEHOLDER}
        made = {FIRST: _task(begin, FIRST, deployment, request=request, **place)}
        for name, before in nodes.items():
            one = _task(node, name, deployment, name=name, flink=flink, **place)
            made[name] = one.after(*(made[other] for other in before or [FIRST]))
        ends = set(nodes) - {one for before in nodes.values() for one in before}
        _task(end, LAST, deployment, **place).after(*(made[one] for one in sorted(ends)))

    return pipeline


def _task(function: Callable[..., None], of: str, deployment: Deployment, **arguments: Any) -> Any:
    from kfp import dsl
    from kfp import kubernetes as pods

    component = dsl.component(function, base_image=deployment.image, install_kfp_package=False)
    component.component_spec.name = dashed(of)
    wanted = deployment.of(of)
    # TFX caches by inputs and code, and knows when a model has to be compared anew; Kubeflow's cache knows neither.
    made = component(**arguments).set_display_name(of).set_caching_options(False)
    made.set_retry(deployment.retried(of), backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="600s")
    made.set_cpu_request(wanted.cpu).set_cpu_limit(wanted.cpu)
    made.set_memory_request(wanted.memory).set_memory_limit(wanted.memory)
    if wanted.accelerators:
        made.set_accelerator_type(wanted.accelerator).set_accelerator_limit(str(wanted.accelerators))
    for key, value in wanted.selector.items():
        pods.add_node_selector(made, key, value)
    for key, value in deployment.environment.items():
        made.set_env_variable(key, value)
    for variable, one in deployment.secrets.items():
        pods.use_secret_as_env(made, one.secret, {one.key: variable}, optional=one.optional)
    if deployment.volume:
        pods.mount_pvc(made, deployment.volume, deployment.root)
    pods.set_security_context(made, run_as_user=deployment.user, run_as_non_root=True)
    return made


def dashed(name: str) -> str:
    """A node's name as Kubernetes takes names: ``SpanExampleGen`` is ``span-example-gen``."""
    return "".join(f"-{one.lower()}" if one.isupper() else one for one in name).lstrip("-")
