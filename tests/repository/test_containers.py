"""Containers: compose.yaml and the development container are valid; ports, files and variables are those of the code."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import typer
import yaml
from support.command import ROOT
from support.manifests import require_tool
from support.schemas import find_schema_faults

from cli.main import app
from serving.server.config import METRICS_PATH
from tour.demo.servers import PORTS, TOUR_PORT

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
DEMO = SERVICES["demo"]
CONFIGS = {name: yaml.safe_load(config["content"]) for name, config in COMPOSE["configs"].items()}
DEVELOPMENT = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PAGE = (ROOT / "docs" / "containers.md").read_text()
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+[\w.-]*")


def test_compose_file_is_valid_and_a_misspelled_key_is_not() -> None:
    assert find_schema_faults("compose-spec", COMPOSE) == []
    broken = {**COMPOSE, "services": {**SERVICES, "demo": {**DEMO, "portz": []}}}
    assert "portz" in str(find_schema_faults("compose-spec", broken))


def test_every_image_is_pinned_by_version() -> None:
    images = {name: service["image"] for name, service in SERVICES.items()}
    assert not {name: image for name, image in images.items() if not PINNED.fullmatch(image)}


def test_every_port_is_published_on_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) > 4 and all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)
    published = [port.split(":")[1] for port in ports]
    assert len(set(published)) == len(published)


def test_every_mounted_file_exists_and_every_volume_is_declared() -> None:
    for service in SERVICES.values():
        for source in (volume.split(":")[0] for volume in service.get("volumes", [])):
            assert (ROOT / source).is_file() if source.startswith("./") else source in COMPOSE["volumes"], source
        assert {config["source"] for config in service.get("configs", [])} <= set(CONFIGS)


def test_demonstration_publishes_the_ports_of_its_servers() -> None:
    pairs = [port.split(":")[1:] for port in DEMO["ports"]]
    assert sorted(int(inside) for _, inside in pairs) == sorted([*PORTS.values(), TOUR_PORT])
    assert all(outside == inside for outside, inside in pairs)


def test_demonstration_has_the_options_and_variables_of_the_commands() -> None:
    commands = typer.main.get_command(app).commands
    program, name, *words = DEMO["command"]
    context = commands[name].make_context(name, words)
    assert program == "showcase" and context.params["host"] == "0.0.0.0"
    variables = {param.envvar for command in ("demo", "serve", "tour") for param in commands[command].params}
    assert set(DEMO["environment"]) <= variables


def test_demonstration_uses_the_image_of_the_manifests_and_its_home() -> None:
    images = yaml.safe_load((ROOT / "kubernetes" / "base" / "kustomization.yaml").read_text())["images"]
    assert DEMO["image"] in {f"{image['name']}:{image['newTag']}" for image in images}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert DEMO["image"] == f"showcase:{version}" and DEMO["build"]["context"] == "."
    (home,) = re.findall(r"SHOWCASE_HOME=(\S+)", DOCKERFILE)
    assert DEMO["volumes"] == [f"home:{home}"]
    assert re.search(rf"install --directory --owner showcase --group showcase {home}\n", DOCKERFILE)


def test_every_profile_and_variable_is_in_the_page() -> None:
    profiles = {profile for service in SERVICES.values() for profile in service.get("profiles", [])}
    assert profiles == {"redis", "mlflow", "monitoring"} == set(re.findall(r"--profile (\w+)", PAGE))
    for name, default in re.findall(r"^([A-Z_]+)=(\S+) docker compose", PAGE, re.MULTILINE):
        host = re.split(r"[/:]+", default)[1]
        assert name in DEMO["environment"] and host in SERVICES, f"{name}={default}"


def test_prometheus_reads_the_gateway_and_the_model_server() -> None:
    jobs = {job["job_name"]: job for job in CONFIGS["prometheus"]["scrape_configs"]}
    targets = {name: job["static_configs"][0]["targets"] for name, job in jobs.items()}
    assert targets == {"gateway": [f"demo:{PORTS['--port']}"], "model-server": [f"demo:{PORTS['--rest-port']}"]}
    assert jobs["model-server"]["metrics_path"] == METRICS_PATH


@pytest.mark.system
def test_promtool_accepts_the_configuration_with_our_rules(tmp_path: Path) -> None:
    mounts = dict(volume.split(":")[:2][::-1] for volume in SERVICES["prometheus"]["volumes"])
    (rules,) = CONFIGS["prometheus"]["rule_files"]
    config = {**CONFIGS["prometheus"], "rule_files": [str(ROOT / mounts[rules])]}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [require_tool("promtool"), "check", "config", str(tmp_path / "prometheus.yml")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0 and "rules found" in result.stdout, result.stdout + result.stderr


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    grafana = SERVICES["grafana"]
    (volume,) = grafana["volumes"]
    source, target, _ = volume.split(":")
    assert json.loads((ROOT / source).read_text())["uid"] == "showcase"
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == target
    assert CONFIGS["grafana-dashboards"]["providers"][0]["options"]["path"] == str(Path(target).parent)
    assert CONFIGS["grafana-datasource"]["datasources"][0]["url"] == "http://prometheus:9090"


def test_development_container_builds_a_stage_and_forwards_the_ports() -> None:
    build = DEVELOPMENT["build"]
    folder = ROOT / ".devcontainer"
    assert (folder / build["dockerfile"]).resolve() == ROOT / "Dockerfile" and (
        folder / build["context"]
    ).resolve() == ROOT
    assert build["target"] in re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, re.MULTILINE)
    assert build["options"] == [f"--platform={DEMO['platform']}"] and build["options"][0] in DEVELOPMENT["runArgs"]
    assert sorted(DEVELOPMENT["forwardPorts"]) == sorted(map(int, DEVELOPMENT["portsAttributes"]))
    assert sorted(DEVELOPMENT["forwardPorts"]) == sorted([*PORTS.values(), TOUR_PORT])
    program, *targets = DEVELOPMENT["postCreateCommand"].split()
    assert program == "make" and set(targets) <= set(
        re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    )
