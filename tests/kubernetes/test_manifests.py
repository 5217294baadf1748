"""The manifests: what the API server would take, what every pod has, and that what they name is there."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from support.manifests import (
    CRDS,
    FOLDER,
    TARGETS,
    Document,
    check_words,
    containers,
    faults,
    rendered,
    templates,
    tool,
    valid,
    words,
)

pytestmark = pytest.mark.system

ROOT = FOLDER.parent
FLINK_MODELS = "@kubernetes-models/flink@1.0.1"
CHECKOV = "checkov==3.3.30"
THEIRS = ("flink-main-container", "job-server")  # commands that their images bring; see test_flink.py
MOUNTED = re.compile(r"(?:^|=)(/[\w./-]+)")


@pytest.fixture(scope="module", autouse=True)
def kubectl() -> None:
    tool("kubectl")


def test_every_folder_that_is_applied_is_tested() -> None:
    found = {str(path.parent.relative_to(FOLDER)) for path in FOLDER.rglob("kustomization.yaml")}
    assert found - {"training/account"} == set(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_every_object_is_valid(target: str) -> None:
    documents = rendered(target)
    assert documents
    for one in documents:
        if one["kind"] not in CRDS:
            valid(one)
    for _, template in templates(documents):  # of a kind of its own too, what is in it is a pod
        valid({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": template["spec"]})


@pytest.mark.parametrize("target", TARGETS)
def test_every_pod_has_what_each_has_to_have(target: str) -> None:
    assert faults(rendered(target)) == []


@pytest.mark.parametrize("target", TARGETS)
def test_every_command_would_be_taken_by_its_program(target: str) -> None:
    for name, _, container in containers(rendered(target)):
        if container["name"] in THEIRS:
            continue
        try:
            check_words(words(container))
        except ValueError as error:
            pytest.fail(f"{name}: {error}")


@pytest.mark.parametrize("target", TARGETS)
def test_every_file_that_a_command_names_lies_on_something_mounted(target: str) -> None:
    documents = rendered(target)
    held = {one["metadata"]["name"]: set(one["data"]) for one in documents if one["kind"] == "ConfigMap"}
    for name, spec, container in containers(documents):
        mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
        maps = {one["name"]: one["configMap"]["name"] for one in spec["volumes"] if "configMap" in one}
        for path in (found[1] for word in words(container) for found in [MOUNTED.search(word)] if found):
            (mount,) = [one for one in mounts if path == one or path.startswith(f"{one}/")]
            if mounts[mount] in maps:
                assert Path(path).name in held[maps[mounts[mount]]], f"{name}: {path}"


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_referred_to_is_there(target: str) -> None:
    """Accounts, claims, services and ports; what another folder brings is looked for in the base."""
    documents = [*rendered(target), *(rendered("base") if not target.startswith(("base", "overlays")) else [])]
    names = {(one["kind"], one["metadata"]["name"]) for one in documents}
    names |= {
        ("PersistentVolumeClaim", c["metadata"]["name"])
        for one in documents
        if one["kind"] == "StatefulSet"
        for c in one["spec"].get("volumeClaimTemplates", ())
    }
    for name, template in templates(documents):
        spec = template["spec"]
        assert ("ServiceAccount", spec["serviceAccountName"]) in names, name
        for volume in spec["volumes"]:
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            assert claim is None or ("PersistentVolumeClaim", claim) in names, name
    labelled = [(template["metadata"]["labels"], template["spec"]) for _, template in templates(documents)]
    for service in (one for one in documents if one["kind"] == "Service"):
        chosen = [spec for labels, spec in labelled if service["spec"]["selector"].items() <= labels.items()]
        assert chosen, service["metadata"]["name"]
        ports = {port["name"] for spec in chosen for one in spec["containers"] for port in one.get("ports", ())}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_probes_ask_ports_that_the_container_has() -> None:
    for name, _, one in containers(rendered("base")):
        ports = {port["name"]: port["containerPort"] for port in one.get("ports", ())}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = one.get(kind, {})
            asked = probe.get("httpGet", probe.get("grpc", {})).get("port")
            assert asked in ports or asked in ports.values(), f"{name}: {kind}"


def test_everything_is_denied_and_each_conversation_has_both_its_ends() -> None:
    policies = [one["spec"] for one in rendered("base") if one["kind"] == "NetworkPolicy"]
    (denied,) = [one for one in policies if one["podSelector"] == {} and "Ingress" in one["policyTypes"]]
    assert denied["policyTypes"] == ["Ingress", "Egress"] and "ingress" not in denied and "egress" not in denied

    def side(role: str, key: str, peer: str) -> set[tuple[str, int]]:
        """Who a role may talk to, or be talked to by, and on which port."""
        rules = [
            rule
            for one in policies
            if one["podSelector"].get("matchLabels") == {"app.kubernetes.io/name": role}
            for rule in one.get(key, ())
        ]
        return {
            (p.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/name", ""), port["port"])
            for rule in rules
            for p in rule[peer]
            for port in rule["ports"]
        }

    assert {("model-server", 8500), ("metadata", 8080)} == side("gateway", "egress", "to")
    assert ("gateway", 8500) in side("model-server", "ingress", "from")
    assert {("gateway", 8080), ("monitor", 8080), ("tour", 8080)} <= side("metadata", "ingress", "from")
    assert {("metadata", 8080)} == side("monitor", "egress", "to")
    assert {("gateway", 8080), ("metadata", 8080)} == side("tour", "egress", "to")
    assert ("tour", 8080) in side("gateway", "ingress", "from")


def test_secrets_are_referred_to_and_no_object_holds_one() -> None:
    for target in TARGETS:
        assert not [one for one in rendered(target) if one["kind"] == "Secret"]
        for name, _, one in containers(rendered(target)):
            for variable in one.get("env", ()):
                if re.search("PASSWORD|TOKEN|SECRET|KEY", variable["name"]):
                    assert "value" not in variable and variable["valueFrom"]["secretKeyRef"], name


@pytest.mark.slow
def test_the_schema_of_flinks_operator_takes_the_deployment_and_not_a_wrong_type(tmp_path: Path) -> None:
    """The definition itself is in no package of ours; a package for Node has made a check of it."""
    command = [
        tool("npm"),
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

    def judged(document: Document) -> str:
        words = [tool("node"), "--input-type=module", "--eval", program]
        return subprocess.run(words, input=json.dumps(document), check=True, capture_output=True, text=True).stdout

    (flink,) = [one for one in rendered("flink") if one["kind"] == "FlinkDeployment"]
    assert judged(flink) == "valid\n"
    flink["spec"]["mode"], flink["spec"]["taskManager"]["replicas"] = "alone", "two"
    assert "data/spec/mode must be equal" in judged(flink) and "replicas must be integer" in judged(flink)


@pytest.mark.slow
def test_checkov_finds_nothing_that_is_not_explained(tmp_path: Path) -> None:
    """Checkov's packages do not go with the lock's, so uv runs it in an environment of its own."""
    uv = shutil.which("uv") or next((str(one) for one in (ROOT / ".tools").glob("*/uv")), None) or tool("uv")
    for target in TARGETS:
        (tmp_path / f"{target.replace('/', '-')}.yaml").write_text(yaml.safe_dump_all(rendered(target)))
    (tmp_path / "planted.yaml").write_text(yaml.safe_dump(planted()))
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
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    found = json.loads(done.stdout)
    failures = [one for kind in found for one in kind["results"]["failed_checks"]]
    failed = [(one["check_id"], one["file_path"], one["resource"]) for one in failures]
    assert "CKV_K8S_16" in {check for check, path, _ in failed if path == "/planted.yaml"}
    assert [one for one in failed if one[1] != "/planted.yaml"] == []
    assert sum(kind["summary"]["passed"] for kind in found) > 200


def planted() -> Document:
    """A pod that is privileged."""
    spec = next(templates(rendered("base")))[1]["spec"]
    spec["containers"][0]["securityContext"]["privileged"] = True
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "planted", "namespace": "showcase"}, "spec": spec}
