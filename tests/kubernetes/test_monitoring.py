"""Rules and dashboard: they parse, each alert fires when it has to, and every metric and label that they name is exported."""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from support.manifests import FOLDER, tool

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


def exported() -> dict[str, set[str]]:
    """Every metric of gateway, monitor and model server by name, with its labels, from the code that exports them."""
    found = {}
    for one in (*vars(gateway_metrics.Metrics()).values(), *vars(Heartbeat("fraud")).values()):
        if hasattr(one, "_labelnames"):
            for suffix in SUFFIXES[one._type]:
                labels = set(one._labelnames) | ({"le"} if suffix == "_bucket" else set())
                found[one._name + suffix] = labels
    counted = metrics.Metrics()
    counted.request("m", "predict", "grpc", "OK", 0.1)
    counted.batch("m", 1)
    counted.load("m", "OK", 1.0)
    for line in counted.text().decode().splitlines():
        if not line.startswith("#"):
            name, _, labels = line.partition("{")
            found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


def selectors(expression: str) -> list[tuple[str, set[str]]]:
    """Every metric that a query selects, with the labels it matches on."""
    found = []
    for name, inside in SELECTOR.findall(expression):
        matchers = dict(MATCHER.findall(inside))
        found.append((matchers.pop("__name__", name), set(matchers)))
    rest = re.sub(r"\[\w+\]", "", GROUPED.sub("", SELECTOR.sub("", expression)))
    return found + [(name, set()) for name in BARE.findall(rest) if name not in WORDS]


def unknown(expression: str, known: Mapping[str, set[str]]) -> list[str]:
    """What a query names that nobody exports."""
    found = []
    for name, labels in selectors(expression):
        if name not in known:
            found.append(name)
        elif strangers := labels - known[name]:
            found.append(f"{name} {sorted(strangers)}")
    names = [known[name] for name, _ in selectors(expression) if name in known]
    grouped = {word.strip() for text in GROUPED.findall(expression) for word in text.split(",") if word.strip()}
    return found + [f"by {label}" for label in sorted(grouped) if names and not any(label in one for one in names)]


def known() -> dict[str, set[str]]:
    """What is exported, and what the rules record, by whose labels they group."""
    found = exported()
    for rule in (rule for group in RULES["groups"] for rule in group["rules"] if "record" in rule):
        grouped = [set(map(str.strip, text.split(","))) for text in GROUPED.findall(rule["expr"])]
        found[rule["record"]] = set().union(*grouped) - {"le"}
    return found


def queries() -> list[str]:
    """All of the rules and of the dashboard, its variable filled in."""
    rules = [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
    panels = [target["expr"].replace("$case", ".+") for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return rules + panels


@pytest.mark.parametrize("query", queries())
def test_every_metric_and_label_is_exported(query: str) -> None:
    assert selectors(query)
    assert unknown(query, known()) == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("rate(gateway_request_total[5m])", ["gateway_request_total"]),
        ('rate(gateway_requests_total{code="500"}[5m])', ["gateway_requests_total ['code']"]),
        ("sum by (model) (rate(gateway_requests_total[5m]))", ["by model"]),
        ('rate({__name__=":tensorflow:serving:requests"}[5m])', [":tensorflow:serving:requests"]),
        ("max by (case) (gateway_braker) == 2", ["gateway_braker"]),
    ],
)
def test_a_name_that_is_not_exported_is_found(query: str, said: list[str]) -> None:
    assert unknown(query, known()) == said


def test_the_dashboard_shows_what_it_has_to() -> None:
    titles = " ".join(panel["title"] for panel in DASHBOARD["panels"]).lower()
    for word in ("traffic", "latency", "errors", "drift", "version"):
        assert word in titles
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids) and all(panel["targets"] for panel in DASHBOARD["panels"])
    places = [tuple(panel["gridPos"].values()) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)


def test_every_alert_says_what_it_is_and_how_bad() -> None:
    alerts = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
    assert all(one["annotations"]["summary"] and one["labels"]["severity"] in ("page", "ticket") for one in alerts)
    tested = (MONITORING / "rules_test.yml").read_text()
    assert [one["alert"] for one in alerts if one["alert"] not in tested] == []


def promtool(*words: str, folder: Path = MONITORING) -> subprocess.CompletedProcess:
    return subprocess.run([tool("promtool"), *words], cwd=folder, capture_output=True, text=True)


def test_prometheus_takes_the_rules_and_each_alert_fires_when_it_has_to() -> None:
    checked = promtool("check", "rules", "rules.yml")
    assert checked.returncode == 0, checked.stderr
    tested = promtool("test", "rules", "rules_test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_a_query_that_does_not_parse_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text("groups: [{name: a, rules: [{alert: A, expr: 'rate(x[5m)'}]}]")
    assert promtool("check", "rules", "rules.yml", folder=tmp_path).returncode != 0


def test_prometheus_parses_every_query_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{n}", "expr": query} for n, query in enumerate(queries())]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = promtool("check", "rules", "rules.yml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
