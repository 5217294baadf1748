"""Rules and dashboard: they parse, each alert fires as expected, and every metric and label in them is exported."""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from support.manifests import FOLDER, require_tool

from pipeline.monitoring.liveness import Heartbeat
from serving.gateway import gateway_metrics
from serving.server import metrics

pytestmark = pytest.mark.system

MONITORING = FOLDER / "base" / "monitoring"
RULES = yaml.safe_load((MONITORING / "rules.yml").read_text())
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)?\{([^}]*)\}")
BARE = re.compile(r"(?<![\w:.])([a-zA-Z_:][\w:]*)(?![\w:]*\s*\()")
WORDS = {"by", "on", "group_left", "offset", "and", "or"}
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
GROUPED = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")


def exported_metrics() -> dict[str, set[str]]:
    """Return the labels of every metric of gateway, monitor and model server, from the code that exports them."""
    metrics_by_name = {}
    for metric in (*vars(gateway_metrics.GatewayMetrics()).values(), *vars(Heartbeat("fraud")).values()):
        if hasattr(metric, "_labelnames"):
            for suffix in SUFFIXES[metric._type]:
                labels = set(metric._labelnames) | ({"le"} if suffix == "_bucket" else set())
                metrics_by_name[metric._name + suffix] = labels
    server_metrics = metrics.ServerMetrics()
    server_metrics.request("m", "predict", "grpc", "OK", 0.1)
    server_metrics.batch("m", 1)
    server_metrics.load("m", "OK", 1.0)
    for line in server_metrics.text().decode().splitlines():
        if not line.startswith("#"):
            name, _, labels = line.partition("{")
            metrics_by_name.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return metrics_by_name


def list_selectors(expression: str) -> list[tuple[str, set[str]]]:
    """Return every metric that a query selects, with the labels that it matches."""
    selected = []
    for name, inside in SELECTOR.findall(expression):
        matchers = dict(MATCHER.findall(inside))
        selected.append((matchers.pop("__name__", name), set(matchers)))
    rest = re.sub(r"\[\w+\]", "", GROUPED.sub("", SELECTOR.sub("", expression)))
    return selected + [(name, set()) for name in BARE.findall(rest) if name not in WORDS]


def find_unknown(expression: str, exported_labels: Mapping[str, set[str]]) -> list[str]:
    """Return metrics and labels of a query that are not exported."""
    missing = []
    for name, labels in list_selectors(expression):
        if name not in exported_labels:
            missing.append(name)
        elif unknown_labels := labels - exported_labels[name]:
            missing.append(f"{name} {sorted(unknown_labels)}")
    names = [exported_labels[name] for name, _ in list_selectors(expression) if name in exported_labels]
    grouped = {word.strip() for text in GROUPED.findall(expression) for word in text.split(",") if word.strip()}
    return missing + [
        f"by {label}" for label in sorted(grouped) if names and not any(label in allowed for allowed in names)
    ]


def known_metrics() -> dict[str, set[str]]:
    """Return the exported and the recorded metrics with their labels."""
    metrics_by_name = exported_metrics()
    for rule in (rule for group in RULES["groups"] for rule in group["rules"] if "record" in rule):
        grouped = [set(map(str.strip, text.split(","))) for text in GROUPED.findall(rule["expr"])]
        metrics_by_name[rule["record"]] = set().union(*grouped) - {"le"}
    return metrics_by_name


def list_queries() -> list[str]:
    """Return all queries of rules and dashboard, with the dashboard's variable replaced."""
    rules = [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
    panels = [target["expr"].replace("$case", ".+") for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return rules + panels


@pytest.mark.parametrize("query", list_queries())
def test_every_metric_and_label_of_a_query_exists(query: str) -> None:
    assert list_selectors(query)
    assert find_unknown(query, known_metrics()) == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("rate(gateway_request_total[5m])", ["gateway_request_total"]),
        ('rate(gateway_requests_total{code="500"}[5m])', ["gateway_requests_total ['code']"]),
        ("sum by (model) (rate(gateway_requests_total[5m]))", ["by model"]),
        ('rate({__name__=":tensorflow:serving:requests"}[5m])', [":tensorflow:serving:requests"]),
        ("max by (case) (gateway_braker) == 2", ["gateway_braker"]),
    ],
)
def test_an_unexported_name_is_found(query: str, expected: list[str]) -> None:
    assert find_unknown(query, known_metrics()) == expected


def test_dashboard_has_the_required_panels() -> None:
    titles = " ".join(panel["title"] for panel in DASHBOARD["panels"]).lower()
    for word in ("traffic", "latency", "errors", "drift", "version"):
        assert word in titles
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids) and all(panel["targets"] for panel in DASHBOARD["panels"])
    positions = [tuple(panel["gridPos"].values()) for panel in DASHBOARD["panels"]]
    assert len(set(positions)) == len(positions)


def test_every_alert_has_summary_severity_and_test() -> None:
    alerts = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
    assert all(
        alert["annotations"]["summary"] and alert["labels"]["severity"] in ("page", "ticket") for alert in alerts
    )
    tested = (MONITORING / "rules_test.yml").read_text()
    assert [alert["alert"] for alert in alerts if alert["alert"] not in tested] == []


def promtool(*words: str, folder: Path = MONITORING) -> subprocess.CompletedProcess:
    return subprocess.run([require_tool("promtool"), *words], cwd=folder, capture_output=True, text=True)


def test_rules_are_valid_and_alerts_fire_as_expected() -> None:
    check = promtool("check", "rules", "rules.yml")
    assert check.returncode == 0, check.stderr
    test = promtool("test", "rules", "rules_test.yml")
    assert test.returncode == 0, test.stdout + test.stderr


def test_an_invalid_query_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text("groups: [{name: a, rules: [{alert: A, expr: 'rate(x[5m)'}]}]")
    assert promtool("check", "rules", "rules.yml", folder=tmp_path).returncode != 0


def test_prometheus_parses_every_query_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{n}", "expr": query} for n, query in enumerate(list_queries())]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    result = promtool("check", "rules", "rules.yml", folder=tmp_path)
    assert result.returncode == 0, result.stderr
