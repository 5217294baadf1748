"""Run one task of a run as its pod does: python -m tests.support.pod_task TASK RUN ROOT METADATA REQUEST."""

import sys

if __name__ == "__main__":
    from pipeline.kubeflow.task import KubeflowTask

    name, run, root, metadata, request = sys.argv[1:]
    task = KubeflowTask(run, root, metadata)
    match name:
        case "Begin":
            task.begin(request)
        case "End":
            task.end()
        case _:
            task.node(name)
