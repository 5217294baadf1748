"""What Kubernetes' own API server says of every manifest: ``kubectl apply --dry-run=server``, and every pod by itself.

The server is built by ``make apiserver``. It knows no kinds of others: those of Kubeflow, KServe and Flink it refuses for want
of their definitions, which is said here kind by kind; what pods they make, it judges all the same.
"""

from collections.abc import Callable, Iterator

import pytest
from support.api_server import Server, running
from support.manifests import CRDS, FOLDER, TARGETS, Document, rendered, templates

pytestmark = [pytest.mark.slow, pytest.mark.api_server]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One in which the namespaces are there, for which nothing can be tried out in a dry run."""
    with running(tmp_path_factory.mktemp("server")) as one:
        made = one.kubectl("create", "namespace", "kubeflow")
        made = made if made.returncode else one.kubectl("apply", "-f", FOLDER / "base" / "namespace.yaml")
        assert made.returncode == 0, made.stderr
        yield one


@pytest.mark.parametrize("target", TARGETS)
def test_the_server_would_take_every_object_that_it_knows(server: Server, target: str) -> None:
    documents = [one for one in rendered(target) if one["kind"] not in CRDS]
    if not documents:
        assert target == "kserve"
        return
    done = server.kubectl("apply", "--dry-run=server", "-f", "-", told=documents)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(server dry run)") == len(documents)


@pytest.mark.parametrize("target", TARGETS)
def test_only_the_kinds_of_others_are_refused_for_want_of_a_definition(server: Server, target: str) -> None:
    done = server.kubectl("apply", "--dry-run=server", "-k", FOLDER / target)
    unknown = {one["kind"] for one in rendered(target)} & set(CRDS)
    assert bool(done.returncode) == bool(unknown), done.stderr
    for kind in unknown:
        assert f'no matches for kind "{kind}"' in done.stderr


def pods(target: str) -> list[Document]:
    """Every pod that a folder's objects would make, with the volumes that a stateful set's claims give it."""
    found = []
    for number, (name, template) in enumerate(templates(rendered(target))):
        pod = {"apiVersion": "v1", "kind": "Pod", "spec": template["spec"], "metadata": dict(template["metadata"])}
        pod["metadata"] |= {"name": f"pod-{number}", "namespace": "showcase"}
        held = {one["name"] for one in pod["spec"]["volumes"]}
        for mount in (mount for one in pod["spec"]["containers"] for mount in one["volumeMounts"]):
            if mount["name"] not in held and name.startswith("StatefulSet"):
                pod["spec"]["volumes"].append(
                    {"name": mount["name"], "persistentVolumeClaim": {"claimName": mount["name"]}}
                )
        found.append(pod)
    return found


@pytest.mark.parametrize("target", [target for target in TARGETS if target != "kserve"])
def test_every_pod_would_be_taken_where_anything_unrestricted_is_warned_of(server: Server, target: str) -> None:
    told = pods(target)
    done = server.kubectl("create", "--dry-run=server", "-f", "-", told=told)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(server dry run)") == len(told) > 0


@pytest.mark.parametrize(
    ("fault", "said"),
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
def test_faults_are_refused_by_it(server: Server, fault: Callable[[Document], object], said: str) -> None:
    pod = pods("base")[0]
    fault(pod)
    done = server.kubectl("create", "--dry-run=server", "-f", "-", told=[pod])
    assert done.returncode != 0 and said in done.stderr, done.stdout + done.stderr
