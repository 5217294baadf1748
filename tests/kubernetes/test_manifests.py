"""The manifests: validity, required settings of every pod, and existence of referenced objects."""

import json
import re
import shutil
import subprocess
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from kubernetes.utils.quantity import parse_quantity
from support.manifests import (
    CRDS,
    FOLDER,
    TARGETS,
    Document,
    check_command_line,
    command_line,
    find_faults,
    list_containers,
    list_pod_templates,
    render_manifests,
    require_tool,
    validate_object,
)

from models.catalog import CASES
from pipeline.kubeflow.deployment import read_deployment

pytestmark = pytest.mark.system

ROOT = FOLDER.parent
FLINK_MODELS = "@kubernetes-models/flink@1.0.1"
CHECKOV = "checkov==3.3.30"
IMAGE_COMMANDS = (
    "flink-main-container",
    "job-server",
)  # containers with the commands of their images; see test_flink.py
MOUNTED = re.compile(r"(?:^|=)(/[\w./-]+)")


@pytest.fixture(scope="module", autouse=True)
def kubectl() -> None:
    require_tool("kubectl")


def test_every_kustomization_is_tested() -> None:
    folders = {str(path.parent.relative_to(FOLDER)) for path in FOLDER.rglob("kustomization.yaml")}
    assert folders - {"training/account"} == set(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_every_object_is_valid(target: str) -> None:
    documents = render_manifests(target)
    assert documents
    for document in documents:
        if document["kind"] not in CRDS:
            validate_object(document)
    for _, template in list_pod_templates(documents):  # the templates of custom kinds are pods, too
        validate_object({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": template["spec"]})


@pytest.mark.parametrize("target", TARGETS)
def test_every_pod_has_the_required_settings(target: str) -> None:
    assert find_faults(render_manifests(target)) == []


@pytest.mark.parametrize("target", TARGETS)
def test_every_command_is_accepted_by_its_program(target: str) -> None:
    for name, _, container in list_containers(render_manifests(target)):
        if container["name"] in IMAGE_COMMANDS:
            continue
        try:
            check_command_line(command_line(container))
        except ValueError as error:
            pytest.fail(f"{name}: {error}")


@pytest.mark.parametrize("target", TARGETS)
def test_files_of_commands_are_on_mounted_volumes(target: str) -> None:
    documents = render_manifests(target)
    config_files = {
        entry["metadata"]["name"]: set(entry["data"]) for entry in documents if entry["kind"] == "ConfigMap"
    }
    for name, spec, container in list_containers(documents):
        mounts = {entry["mountPath"]: entry["name"] for entry in container["volumeMounts"]}
        maps = {entry["name"]: entry["configMap"]["name"] for entry in spec["volumes"] if "configMap" in entry}
        for path in (match[1] for word in command_line(container) for match in [MOUNTED.search(word)] if match):
            (mount,) = [entry for entry in mounts if path == entry or path.startswith(f"{entry}/")]
            if mounts[mount] in maps:
                assert Path(path).name in config_files[maps[mounts[mount]]], f"{name}: {path}"


@pytest.mark.parametrize("target", TARGETS)
def test_referenced_objects_exist(target: str) -> None:
    """Accounts, claims, services and ports; objects that a folder lacks have to be in the base."""
    documents = [
        *render_manifests(target),
        *(render_manifests("base") if not target.startswith(("base", "overlays")) else []),
    ]
    names = {(document["kind"], document["metadata"]["name"]) for document in documents}
    names |= {
        ("PersistentVolumeClaim", c["metadata"]["name"])
        for document in documents
        if document["kind"] == "StatefulSet"
        for c in document["spec"].get("volumeClaimTemplates", ())
    }
    for name, template in list_pod_templates(documents):
        spec = template["spec"]
        assert ("ServiceAccount", spec["serviceAccountName"]) in names, name
        for volume in spec["volumes"]:
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            assert claim is None or ("PersistentVolumeClaim", claim) in names, name
    labelled = [(template["metadata"]["labels"], template["spec"]) for _, template in list_pod_templates(documents)]
    for service in (document for document in documents if document["kind"] == "Service"):
        selected = [spec for labels, spec in labelled if service["spec"]["selector"].items() <= labels.items()]
        assert selected, service["metadata"]["name"]
        ports = {
            port["name"] for spec in selected for document in spec["containers"] for port in document.get("ports", ())
        }
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_probes_use_ports_of_the_container() -> None:
    for name, spec, container in list_containers(render_manifests("base")):
        if container not in spec["containers"]:
            continue  # an init container runs to its end
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container.get(kind, {})
            port_name = probe.get("httpGet", probe.get("grpc", {})).get("port")
            assert port_name in ports or port_name in ports.values(), f"{name}: {kind}"


def test_traffic_is_denied_by_default_and_connections_are_allowed_on_both_ends() -> None:
    policies = [policy["spec"] for policy in render_manifests("base") if policy["kind"] == "NetworkPolicy"]
    (default,) = [policy for policy in policies if policy["podSelector"] == {} and "Ingress" in policy["policyTypes"]]
    assert default["policyTypes"] == ["Ingress", "Egress"] and "ingress" not in default and "egress" not in default

    def list_peers(role: str, key: str, peer: str) -> set[tuple[str, int]]:
        """Return the peers and ports of a role's allowed connections."""
        rules = [
            rule
            for policy in policies
            if policy["podSelector"].get("matchLabels") == {"app.kubernetes.io/name": role}
            for rule in policy.get(key, ())
        ]
        return {
            (p.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/name", ""), port["port"])
            for rule in rules
            for p in rule[peer]
            for port in rule["ports"]
        }

    assert {("model-server", 8500), ("metadata", 8080)} == list_peers("gateway", "egress", "to")
    assert ("gateway", 8500) in list_peers("model-server", "ingress", "from")
    assert {("gateway", 8080), ("monitor", 8080), ("tour", 8080)} <= list_peers("metadata", "ingress", "from")
    assert {("metadata", 8080)} == list_peers("monitor", "egress", "to")
    assert {("gateway", 8080), ("metadata", 8080)} == list_peers("tour", "egress", "to")
    assert ("tour", 8080) in list_peers("gateway", "ingress", "from")


def test_secrets_are_references_and_no_object_contains_one() -> None:
    for target in TARGETS:
        assert not [entry for entry in render_manifests(target) if entry["kind"] == "Secret"]
        for name, _, entry in list_containers(render_manifests(target)):
            for variable in entry.get("env", ()):
                if re.search("PASSWORD|TOKEN|SECRET|KEY", variable["name"]):
                    assert "value" not in variable and variable["valueFrom"]["secretKeyRef"], name


@pytest.mark.slow
def test_schema_of_flinks_operator_accepts_the_deployment_and_refuses_wrong_types(tmp_path: Path) -> None:
    """No Python package contains the definition; a Node package provides a validator."""
    command = [
        require_tool("npm"),
        "install",
        "--prefix",
        tmp_path,
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        FLINK_MODELS,
    ]
    subprocess.run(command, check=True, capture_output=True)
    module = tmp_path / "node_modules" / "@kubernetes-models/flink/flink.apache.org/v1beta1/FlinkDeployment.js"
    program = f"""
import {{ readFileSync }} from "fs";
import {{ FlinkDeployment }} from "{module.as_uri()}";
try {{ new FlinkDeployment(JSON.parse(readFileSync(0))).validate(); console.log("valid"); }}
catch (error) {{ console.log(error.message); }}
"""

    def validate(document: Document) -> str:
        words = [require_tool("node"), "--input-type=module", "--eval", program]
        return subprocess.run(words, input=json.dumps(document), check=True, capture_output=True, text=True).stdout

    (flink,) = [document for document in render_manifests("flink") if document["kind"] == "FlinkDeployment"]
    assert validate(flink) == "valid\n"
    flink["spec"]["mode"], flink["spec"]["taskManager"]["replicas"] = "alone", "two"
    assert "data/spec/mode must be equal" in validate(flink) and "replicas must be integer" in validate(flink)


@pytest.mark.slow
def test_checkov_finds_only_the_skipped_checks(tmp_path: Path) -> None:
    """Checkov's dependencies conflict with the lock file, so uv runs it in a separate environment."""
    uv = (
        shutil.which("uv") or next((str(entry) for entry in (ROOT / ".tools").glob("*/uv")), None) or require_tool("uv")
    )
    for target in TARGETS:
        (tmp_path / f"{target.replace('/', '-')}.yaml").write_text(yaml.safe_dump_all(render_manifests(target)))
    (tmp_path / "privileged.yaml").write_text(yaml.safe_dump(privileged_pod()))
    shutil.copy(ROOT / "Dockerfile", tmp_path)
    command = [uv, "tool", "run", "--from", CHECKOV, "checkov", "--skip-download", "--quiet", "--compact", "-o", "json"]
    command += [
        "--config-file",
        str(FOLDER / "checkov.yaml"),
        "--framework",
        "kubernetes",
        "dockerfile",
        "-d",
        str(tmp_path),
    ]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    reports = json.loads(result.stdout)
    failures = [entry for kind in reports for entry in kind["results"]["failed_checks"]]
    failed = [(entry["check_id"], entry["file_path"], entry["resource"]) for entry in failures]
    assert "CKV_K8S_16" in {check for check, path, _ in failed if path == "/privileged.yaml"}
    assert [entry for entry in failed if entry[1] != "/privileged.yaml"] == []
    assert sum(kind["summary"]["passed"] for kind in reports) > 200


def privileged_pod() -> Document:
    """Return a privileged pod."""
    spec = next(list_pod_templates(render_manifests("base")))[1]["spec"]
    spec["containers"][0]["securityContext"]["privileged"] = True
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "privileged", "namespace": "showcase"},
        "spec": spec,
    }


def test_a_slow_answer_on_a_busy_node_restarts_no_container() -> None:
    """Kubernetes' default timeout of a liveness probe is one second."""
    for target in ("base", "flink"):
        probes = {name: entry.get("livenessProbe", {}) for name, _, entry in list_containers(render_manifests(target))}
        assert not [name for name, probe in probes.items() if probe and probe.get("timeoutSeconds", 1) < 5]


def test_no_probe_depends_on_which_models_are_pushed() -> None:
    for name, _, container in list_containers(render_manifests("base")):
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            path = container.get(kind, {}).get("httpGet", {}).get("path", "")
            assert not [case for case in CASES if case in path], f"{name}: {kind}"


def test_laptop_overlay_and_one_task_fit_a_node_of_two_cores_and_8_gib() -> None:
    documents = render_manifests("overlays/laptop")
    deployment = read_deployment(FOLDER / "overlays" / "laptop" / "pipeline.toml")
    tasks = [deployment.default, *deployment.nodes.values()]
    requests = [container["resources"]["requests"] for _, _, container in list_containers(documents)]
    cpu = sum(parse_quantity(request["cpu"]) for request in requests)
    memory = sum(parse_quantity(request["memory"]) for request in requests)
    # One in five of the node is left to Kubernetes and, if it is there, to Kubeflow.
    assert cpu + 2 * max(parse_quantity(task.cpu) for task in tasks) <= Decimal("0.8") * 2
    assert memory + 2 * max(parse_quantity(task.memory) for task in tasks) <= Decimal("0.8") * 8 * 2**30


def test_laptop_overlay_needs_no_metrics_server() -> None:
    kinds = {target: {document["kind"] for document in render_manifests(target)} for target in TARGETS}
    assert "HorizontalPodAutoscaler" in kinds["base"] & kinds["overlays/production"]
    assert "HorizontalPodAutoscaler" not in kinds["overlays/laptop"]
