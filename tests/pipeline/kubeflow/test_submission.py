"""What Kubeflow's API gets from `showcase submit`, by a stand-in that keeps it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kfp_server import Api, standing_in

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
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Api]:
    """The stand-in; no pause between tries, no token and no one's settings."""
    monkeypatch.setattr(submission, "PAUSE", 0.0)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(submission.TOKEN, raising=False)
    with standing_in() as running:
        yield running


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A compiled spec, JSON being YAML, with settings for Kubernetes after it."""
    path = tmp_path / "tiny.yaml"
    platform = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec-one": {"retries": 1}}}}}}
    path.write_text(f"{json.dumps(SPEC)}\n---\n{json.dumps(platform)}\n")
    return path


def test_a_run_arrives_whole_in_an_experiment_of_the_name(api: Api, spec: Path) -> None:
    told = submit(spec, "tiny-1", Target(api.url, "tiny", account="runner"))
    (experiment,), (run,) = api.made["experiments"], api.made["runs"]
    assert experiment["display_name"] == "tiny"
    assert (run["experiment_id"], run["display_name"], run["service_account"]) == ("experiments-1", "tiny-1", "runner")
    sent = run["pipeline_spec"]
    assert set(sent) == {"pipeline_spec", "platform_spec"}
    assert sent["pipeline_spec"]["deploymentSpec"] == SPEC["deploymentSpec"]
    assert sent["pipeline_spec"]["root"]["dag"]["tasks"]["one"]["cachingOptions"] == {}
    assert told == {"experiment": "experiments-1", "run": "runs-1", "url": f"{api.url}/#/runs/details/runs-1"}


def test_an_experiment_that_is_there_is_used(api: Api, spec: Path) -> None:
    for name in ("tiny-1", "tiny-2"):
        submit(spec, name, Target(api.url, "tiny"))
    assert len(api.made["experiments"]) == 1
    assert [run["display_name"] for run in api.made["runs"]] == ["tiny-1", "tiny-2"]


def test_a_recurring_run_has_the_schedule_and_never_overlaps_itself(api: Api, spec: Path) -> None:
    told = submit(spec, "tiny-1", Target(api.url, "tiny"), every="0 0 3 * * *")
    (made,) = api.made["recurringruns"]
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * *"}}
    assert (int(made["max_concurrency"]), made["no_catchup"], made["mode"]) == (1, True, "ENABLE")
    assert told["recurring_run"] == "recurringruns-1" and not api.made["runs"]


@pytest.mark.parametrize("statuses", [[503], [429, 500, 502]])
def test_what_passes_is_tried_again(api: Api, spec: Path, statuses: list[int]) -> None:
    api.failing = list(statuses)
    assert submit(spec, "tiny-1", Target(api.url, "tiny"))["run"] == "runs-1"
    assert not api.failing and len(api.made["runs"]) == 1


@pytest.mark.parametrize(("every", "kind"), [("", "runs"), ("0 0 3 * * *", "recurringruns")])
def test_a_creation_whose_answer_was_lost_is_not_made_twice(api: Api, spec: Path, every: str, kind: str) -> None:
    api.losing = 1
    assert f"{kind}-1" in submit(spec, "tiny-1", Target(api.url, "tiny"), every).values()
    assert len(api.made[kind]) == 1


def test_what_does_not_pass_is_given_up_with_the_servers_words(api: Api, spec: Path) -> None:
    api.failing = [400]
    with pytest.raises(ValueError, match="refused: 400 .*not now"):
        submit(spec, "tiny-1", Target(api.url, "tiny"))
    api.failing = [503] * submission.TRIES
    with pytest.raises(OSError, match="answered 503 .*4 times"):
        submit(spec, "tiny-1", Target(api.url, "tiny"))
    assert not api.made["runs"]


def test_nobody_there_is_one_sentence(api: Api, spec: Path) -> None:
    url = api.url
    api.shutdown()
    api.server_close()
    with pytest.raises(OSError, match="does not answer"):
        submit(spec, "tiny-1", Target(url, "tiny"))


def test_the_token_is_sent_and_never_shown(api: Api, spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(submission.TOKEN, "a-secret")
    told = submit(spec, "tiny-1", Target(api.url, "tiny"))
    sent = [
        {name.lower(): value for name, value in headers.items()}.get("authorization") for _, _, headers in api.requests
    ]
    assert set(sent) == {"Bearer a-secret"} and "a-secret" not in str(told)


def test_where_there_are_several_users_one_has_to_be_named(api: Api, spec: Path) -> None:
    api.users = True
    with pytest.raises(ValueError, match="--namespace"):
        submit(spec, "tiny-1", Target(api.url, "tiny"))
    submit(spec, "tiny-1", Target(api.url, "tiny", namespace="me"))
    assert api.made["experiments"][0]["namespace"] == "me"


@pytest.mark.parametrize(
    ("host", "every", "word"), [("localhost:8080", "", "--host"), ("http://x", "0 3 * * *", "--every")]
)
def test_words_that_cannot_be_right_are_refused_before_anything_is_sent(
    api: Api, spec: Path, host: str, every: str, word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        submit(spec, "tiny-1", Target(host, "tiny"), every)
    assert not api.requests
