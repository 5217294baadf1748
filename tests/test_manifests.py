"""The manifests: what the API server would take, what every pod has, and that what they name is there. Faults are planted."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from manifests import CRDS, FOLDER, TARGETS, Document, check_words, containers, faults, rendered, templates, words

ROOT = FOLDER.parent
VERSION = "1.30"
FLINK_MODELS = "@kubernetes-models/flink@1.0.1"
CHECKOV = "checkov==3.3.30"
THEIRS = ("flink-main-container", "job-server")  # commands that their images bring; see test_flink.py
MOUNTED = re.compile(r"(?:^|=)(/[\w./-]+)")


def tool(name: str) -> str:
    """A program that `.ci/run` installs; elsewhere its tests are skipped."""
    found = shutil.which(name) or shutil.which(name, path=str(ROOT / ".venv" / "bin"))
    if not found and not os.environ.get("CI"):
        pytest.skip(f"{name} is not installed")
    assert found, f"{name} is not installed"
    return found


@pytest.fixture(scope="module", autouse=True)
def kubectl() -> None:
    tool("kubectl")


def valid(document: Document) -> None:
    """Raises an error if the API server would not take it, or it has a field that nobody knows."""
    kubernetes_validate.validate(document, VERSION, strict=True)


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
    names |= {("PersistentVolumeClaim", c["metadata"]["name"]) for one in documents if one["kind"] == "StatefulSet"
              for c in one["spec"].get("volumeClaimTemplates", ())}  # fmt: skip
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
        rules = [rule for one in policies if one["podSelector"].get("matchLabels") == {"app.kubernetes.io/name": role}
                 for rule in one.get(key, ())]  # fmt: skip
        return {(p.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/name", ""), port["port"])
                for rule in rules for p in rule[peer] for port in rule["ports"]}  # fmt: skip

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


# Faults, each of which has to be found.


def served(documents: list[Document]) -> Document:
    """The model server's container."""
    (deployment,) = [one for one in documents if one["kind"] == "Deployment" and one["metadata"]["name"] == "model-server"]
    return deployment["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda one: one.update(readinesProbe=one.pop("readinessProbe")), id="typo"),
        pytest.param(lambda one: one["ports"][0].update(containerPort="8500"), id="wrong type"),
        pytest.param(lambda one: one["livenessProbe"].update(periodSeconds="often"), id="no number"),
        pytest.param(lambda one: one.pop("name"), id="missing field"),
    ],
)
def test_a_typo_and_a_wrong_type_are_refused(fault: Callable[[Document], Any]) -> None:
    documents = rendered("base")
    fault(served(documents))
    with pytest.raises(kubernetes_validate.ValidationError):
        for one in documents:
            valid(one)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda one: one.pop("readinessProbe"), "no readinessProbe"),
        (lambda one: one["resources"]["limits"].pop("memory"), "no limits of memory"),
        (lambda one: one.update(image="tensorflow/serving:latest"), "is not pinned"),
        (lambda one: one.update(image="registry.example.com:5000/serving"), "is not pinned"),
        (lambda one: one["securityContext"].update(readOnlyRootFilesystem=False), "readOnlyRootFilesystem is not True"),
        (lambda one: one["securityContext"]["capabilities"].update(drop=["NET_RAW"]), "capabilities"),
        (lambda one: one["volumeMounts"].append({"name": "there", "mountPath": "/there"}), "no volume there"),
    ],
)
def test_what_a_pod_lacks_is_found(fault: Callable[[Document], Any], said: str) -> None:
    documents = rendered("base")
    fault(served(documents))
    (found,) = faults(documents)
    assert said in found


def test_a_pod_that_may_run_as_root_is_found() -> None:
    documents = rendered("base")
    next(templates(documents))[1]["spec"]["securityContext"].pop("runAsNonRoot")
    assert [one for one in faults(documents) if "may run as root" in one]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["tensorflow_model_server", "--rest_api_prot=8501"], "--rest_api_prot"),
        (["tensorflow_model_server", "--port=many"], "--port takes a whole number"),
        (["tensorflow_model_server", "--ssl_config_file=/x"], "not supported"),
        (["showcase", "serve", "--rst-port", "8501"], "--rst-port"),
        (["showcase", "serve", "--port", "many"], "--port"),
        (["showcase", "sreve"], "no command 'sreve'"),
        (["python", "-m", "models.worker", "/job.json", "--exprt=/x"], "--exprt"),
        (["python", "-m", "pipeline.job", "fraud"], "--out"),
        (["python", "-m", "models.wroker"], "models.wroker"),
        (["serve"], "no program 'serve'"),
    ],
)
def test_an_unknown_flag_command_or_module_is_found(line: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        check_words(line)


# The image and the tools that look at files.


def test_hadolint_has_nothing_to_say_and_finds_what_is_wrong(tmp_path: Path) -> None:
    hadolint = tool("hadolint")
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    broken = tmp_path / "Dockerfile"
    broken.write_text("FROM python:latest\nRUN cd /tmp\n")
    assert subprocess.run([hadolint, str(broken)], capture_output=True).returncode == 1


def instructions() -> Iterator[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text())
    for line in text.splitlines():
        if line and not line.startswith("#"):
            yield tuple(line.split(maxsplit=1))


def test_the_image_is_locked_in_two_stages_and_not_root() -> None:
    found = list(instructions())
    images = [text.split()[0] for name, text in found if name == "FROM"]
    assert len(images) == 2 and all(re.search(r":3\.11-\w+", one) for one in images)
    syncs = [text for name, text in found if name == "RUN" and "uv sync" in text]
    assert syncs and all("--frozen" in one and "--group kubeflow" in one for one in syncs)
    assert [text for name, text in found if name == "USER"] == ["10001:10001"]
    assert {spec["securityContext"]["runAsUser"] for _, spec, _ in containers(rendered("base"))} == {10001}


def test_all_that_the_image_copies_is_there_and_all_our_packages_are_copied() -> None:
    sources = [one for name, text in instructions() if name == "COPY" and "--from" not in text for one in text.split()[:-1]]
    assert all((ROOT / one).exists() for one in sources)
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(sources) <= sent
    tops = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert tops <= set(sources)


def test_the_image_and_the_pipeline_agree_on_name_user_and_volume() -> None:
    from pipeline import deployment

    told = deployment.read()
    images = {one["image"] for _, _, one in containers(rendered("base"))}
    claims = {v["persistentVolumeClaim"]["claimName"] for _, t in templates(rendered("base")) for v in t["spec"]["volumes"]
              if "persistentVolumeClaim" in v}  # fmt: skip
    assert told.image in images and claims == {told.volume} and told.user == 10001
    assert told.metadata == "grpc://metadata:8080" and ("Service", "metadata") in {
        (one["kind"], one["metadata"]["name"]) for one in rendered("base")
    }


@pytest.mark.slow
def test_the_schema_of_flinks_operator_takes_the_deployment_and_not_a_wrong_type(tmp_path: Path) -> None:
    """The definition itself is in no package of ours; a package for Node has made a check of it."""
    command = [tool("npm"), "install", "--prefix", tmp_path, "--ignore-scripts", "--no-audit", "--no-fund", FLINK_MODELS]
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
    command += ["--config-file", str(FOLDER / "checkov.yaml"), "--framework", "kubernetes", "dockerfile", "-d", str(tmp_path)]
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
