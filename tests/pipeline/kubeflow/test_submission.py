"""Requests of `showcase submit` to Kubeflow's API, recorded by a fake server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kfp_server import FakeKfpApi, run_fake_api

from pipeline.kubeflow import submission
from pipeline.kubeflow.submission import Target, submit

pytestmark = pytest.mark.system

SPEC = {
    "pipelineInfo": {"name": "tiny"},
    "schemaVersion": "2.1.0",
    "sdkVersion": "kfp-2.16.1",
    "root": {"dag": {"tasks": {"one": {"componentRef": {"name": "comp-one"}, "taskInfo": {"name": "One"}}}}},
    "components": {"comp-one": {"executorLabel": "exec-one"}},
    "deploymentSpec": {"executors": {"exec-one": {"container": {"image": "showcase:0.1.0"}}}},
}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeKfpApi]:
    """The fake server; no pause between attempts, no token and no user settings."""
    monkeypatch.setattr(submission, "PAUSE", 0.0)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(submission.TOKEN, raising=False)
    with run_fake_api() as running:
        yield running


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A compiled spec as JSON, which is valid YAML, followed by Kubernetes settings."""
    path = tmp_path / "tiny.yaml"
    platform = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec-one": {"retries": 1}}}}}}
    path.write_text(f"{json.dumps(SPEC)}\n---\n{json.dumps(platform)}\n")
    return path


def test_run_is_created_with_the_spec_in_the_named_experiment(api: FakeKfpApi, spec: Path) -> None:
    ids = submit(spec, "tiny-1", Target(api.url, "tiny", account="runner"))
    (experiment,), (run,) = api.created["experiments"], api.created["runs"]
    assert experiment["display_name"] == "tiny"
    assert (run["experiment_id"], run["display_name"], run["service_account"]) == ("experiments-1", "tiny-1", "runner")
    spec_of_run = run["pipeline_spec"]
    assert set(spec_of_run) == {"pipeline_spec", "platform_spec"}
    assert spec_of_run["pipeline_spec"]["deploymentSpec"] == SPEC["deploymentSpec"]
    assert spec_of_run["pipeline_spec"]["root"]["dag"]["tasks"]["one"]["cachingOptions"] == {}
    assert ids == {"experiment": "experiments-1", "run": "runs-1", "url": f"{api.url}/#/runs/details/runs-1"}


def test_existing_experiment_is_reused(api: FakeKfpApi, spec: Path) -> None:
    for name in ("tiny-1", "tiny-2"):
        submit(spec, name, Target(api.url, "tiny"))
    assert len(api.created["experiments"]) == 1
    assert [run["display_name"] for run in api.created["runs"]] == ["tiny-1", "tiny-2"]


def test_recurring_run_has_schedule_and_concurrency_of_one(api: FakeKfpApi, spec: Path) -> None:
    ids = submit(spec, "tiny-1", Target(api.url, "tiny"), every="0 0 3 * * *")
    (recurring_run,) = api.created["recurringruns"]
    assert recurring_run["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * *"}}
    assert (int(recurring_run["max_concurrency"]), recurring_run["no_catchup"], recurring_run["mode"]) == (
        1,
        True,
        "ENABLE",
    )
    assert ids["recurring_run"] == "recurringruns-1" and not api.created["runs"]


@pytest.mark.parametrize("statuses", [[503], [429, 500, 502]])
def test_transient_errors_are_retried(api: FakeKfpApi, spec: Path, statuses: list[int]) -> None:
    api.failing_statuses = list(statuses)
    assert submit(spec, "tiny-1", Target(api.url, "tiny"))["run"] == "runs-1"
    assert not api.failing_statuses and len(api.created["runs"]) == 1


@pytest.mark.parametrize(("every", "kind"), [("", "runs"), ("0 0 3 * * *", "recurringruns")])
def test_creation_with_lost_response_is_not_repeated(api: FakeKfpApi, spec: Path, every: str, kind: str) -> None:
    api.lost_responses = 1
    assert f"{kind}-1" in submit(spec, "tiny-1", Target(api.url, "tiny"), every).values()
    assert len(api.created[kind]) == 1


def test_permanent_error_and_exhausted_retries_show_the_response(api: FakeKfpApi, spec: Path) -> None:
    api.failing_statuses = [400]
    with pytest.raises(ValueError, match="refused: 400 .*not now"):
        submit(spec, "tiny-1", Target(api.url, "tiny"))
    api.failing_statuses = [503] * submission.ATTEMPTS
    with pytest.raises(OSError, match="answered 503 .*4 times"):
        submit(spec, "tiny-1", Target(api.url, "tiny"))
    assert not api.created["runs"]


def test_unreachable_host_is_an_os_error(api: FakeKfpApi, spec: Path) -> None:
    url = api.url
    api.shutdown()
    api.server_close()
    with pytest.raises(OSError, match="does not answer"):
        submit(spec, "tiny-1", Target(url, "tiny"))


def test_token_is_sent_and_not_returned(api: FakeKfpApi, spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(submission.TOKEN, "a-secret")
    ids = submit(spec, "tiny-1", Target(api.url, "tiny"))
    tokens = [
        {name.lower(): value for name, value in headers.items()}.get("authorization") for _, _, headers in api.requests
    ]
    assert set(tokens) == {"Bearer a-secret"} and "a-secret" not in str(ids)


def test_multi_user_server_requires_a_namespace(api: FakeKfpApi, spec: Path) -> None:
    api.users = True
    with pytest.raises(ValueError, match="--namespace"):
        submit(spec, "tiny-1", Target(api.url, "tiny"))
    submit(spec, "tiny-1", Target(api.url, "tiny", namespace="me"))
    assert api.created["experiments"][0]["namespace"] == "me"


@pytest.mark.parametrize(
    ("host", "every", "option"), [("localhost:8080", "", "--host"), ("http://x", "0 3 * * *", "--every")]
)
def test_invalid_host_or_schedule_sends_no_request(
    api: FakeKfpApi, spec: Path, host: str, every: str, option: str
) -> None:
    with pytest.raises(ValueError, match=option):
        submit(spec, "tiny-1", Target(host, "tiny"), every)
    assert not api.requests
