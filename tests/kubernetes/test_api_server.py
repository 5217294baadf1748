"""Validation of every manifest by Kubernetes' API server: ``kubectl apply --dry-run=server``, and every pod separately.

``make apiserver`` builds the server. It has no definitions of the custom kinds of Kubeflow, KServe and Flink, so it refuses
objects of these kinds; the pods of such objects are validated separately.
"""

from collections.abc import Callable, Iterator

import pytest
from support.api_server import ApiServer, run_api_server
from support.manifests import CRDS, FOLDER, TARGETS, Document, list_pod_templates, render_manifests

pytestmark = [pytest.mark.slow, pytest.mark.api_server]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server in which the namespaces exist, as a dry run cannot use a namespace that does not."""
    with run_api_server(tmp_path_factory.mktemp("server")) as running_server:
        created = running_server.kubectl("create", "namespace", "kubeflow")
        created = (
            created if created.returncode else running_server.kubectl("apply", "-f", FOLDER / "base" / "namespace.yaml")
        )
        assert created.returncode == 0, created.stderr
        yield running_server


@pytest.mark.parametrize("target", TARGETS)
def test_server_accepts_every_object_of_a_built_in_kind(server: ApiServer, target: str) -> None:
    documents = [document for document in render_manifests(target) if document["kind"] not in CRDS]
    if not documents:
        assert target == "kserve"
        return
    result = server.kubectl("apply", "--dry-run=server", "-f", "-", objects=documents)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("(server dry run)") == len(documents)


@pytest.mark.parametrize("target", TARGETS)
def test_server_refuses_only_custom_kinds_without_a_definition(server: ApiServer, target: str) -> None:
    result = server.kubectl("apply", "--dry-run=server", "-k", FOLDER / target)
    unknown = {document["kind"] for document in render_manifests(target)} & set(CRDS)
    assert bool(result.returncode) == bool(unknown), result.stderr
    for kind in unknown:
        assert f'no matches for kind "{kind}"' in result.stderr


def pods(target: str) -> list[Document]:
    """Return every pod that the objects of a folder create, with the volumes from a stateful set's claims."""
    result = []
    for number, (name, template) in enumerate(list_pod_templates(render_manifests(target))):
        pod = {"apiVersion": "v1", "kind": "Pod", "spec": template["spec"], "metadata": dict(template["metadata"])}
        pod["metadata"] |= {"name": f"pod-{number}", "namespace": "showcase"}
        volumes = {entry["name"] for entry in pod["spec"]["volumes"]}
        for mount in (mount for entry in pod["spec"]["containers"] for mount in entry["volumeMounts"]):
            if mount["name"] not in volumes and name.startswith("StatefulSet"):
                pod["spec"]["volumes"].append(
                    {"name": mount["name"], "persistentVolumeClaim": {"claimName": mount["name"]}}
                )
        result.append(pod)
    return result


@pytest.mark.parametrize("target", [target for target in TARGETS if target != "kserve"])
def test_every_pod_complies_with_the_restricted_standard(server: ApiServer, target: str) -> None:
    documents = pods(target)
    result = server.kubectl("create", "--dry-run=server", "-f", "-", objects=documents)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("(server dry run)") == len(documents) > 0


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        pytest.param(lambda pod: pod["spec"]["containers"][0].update(imag="x"), "unknown field", id="typo"),
        pytest.param(
            lambda pod: pod["spec"]["containers"][0]["ports"][0].update(containerPort=99999),
            "must be between 1 and 65535",
            id="no port",
        ),
        pytest.param(
            lambda pod: pod["spec"]["containers"][0]["volumeMounts"][0].update(name="none"),
            'Not found: "none"',
            id="no volume",
        ),
        pytest.param(
            lambda pod: pod["spec"]["containers"][0]["resources"]["requests"].update(cpu="100"),
            "must be less than or equal to cpu limit",
            id="more than the limit",
        ),
        pytest.param(
            lambda pod: pod["spec"]["securityContext"].pop("seccompProfile"),
            "would violate PodSecurity",
            id="without seccomp",
        ),
        pytest.param(lambda pod: pod["spec"].update(hostNetwork=True), "violates PodSecurity", id="the host's network"),
    ],
)
def test_server_refuses_invalid_pods(server: ApiServer, fault: Callable[[Document], object], message: str) -> None:
    pod = pods("base")[0]
    fault(pod)
    result = server.kubectl("create", "--dry-run=server", "-f", "-", objects=[pod])
    assert result.returncode != 0 and message in result.stderr, result.stdout + result.stderr
