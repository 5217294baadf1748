"""The Questions pages, their search, and evidence that a worker process computes one at a time."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from support.evidence_worker import ANSWERS, write_worker
from support.shown_kinds import HOSTILE, RESULTS, TagParser

from tour import notes
from tour.evidence import render
from tour.figures import svg
from tour.web import prover
from tour.web.application import create_app
from tour.web.pages import presenter, question
from tour.web.prover import Prover, QueueFullError

pytestmark = pytest.mark.system

BASE = "http://127.0.0.1"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(tmp_path), base_url=BASE) as opened:
        yield opened


def test_every_question_is_listed_and_has_a_page(client: TestClient) -> None:
    listed = client.get("/questions").text
    for id_ in notes.questions():
        assert f'href="/questions/{id_}"' in listed
        page = client.get(f"/questions/{id_}")
        assert (
            page.status_code == 200
            and "Compute now" in page.text
            and '<details class="card answer" id="answer">' in page.text
        )
    assert "58 questions" in listed


@pytest.mark.parametrize(("words", "first"), [("a29", "A29"), ("variable lifetime", "A23"), ("roc curve", "A28")])
def test_search_ranks_the_best_match_first(client: TestClient, words: str, first: str) -> None:
    links = [
        attributes["href"]
        for name, attributes in TagParser(client.get("/questions", params={"q": words}).text).found
        if name == "a" and "href" in attributes
    ]
    assert next(link for link in links if link.startswith("/questions/")) == f"/questions/{first}"


def test_search_without_match_shows_the_words_escaped(client: TestClient) -> None:
    page = client.get("/questions", params={"q": "<script>zzqx</script>"}).text
    assert (
        "No question or answer contains these words" in page
        and "<script>zzqx" not in page
        and "&lt;script&gt;zzqx" in page
    )


def test_page_shows_the_current_code_without_inline_styles(client: TestClient) -> None:
    note = notes.read()["A29"]
    page = client.get("/questions/a29").text
    number, line = next((n, text) for n, text in note.source[1:] if text.strip())
    assert f"{note.path}:{note.line}" in page and f">{number}</span>" in page and line.split()[0] in page
    assert not any(
        "style" in attributes or any(key.startswith("on") for key in attributes)
        for _, attributes in TagParser(page).found
    )


@pytest.mark.parametrize("path", ["/questions/Z9", "/questions/Z9/card", "/questions/..%2fA1", "/questions/Z9/events"])
def test_unknown_question_is_not_found(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404
    assert client.get(path, headers={"accept": "application/json"}).json()["error"]


def test_evidence_of_every_kind_is_shown_and_escaped(client: TestClient) -> None:
    job = prover.EvidenceJob(
        "A1",
        None,
        "done",
        response={
            "case": "fraud",
            "seconds": 0.5,
            "results": [render.to_json(result) | {"svg": svg(result)} for result in RESULTS],
        },
    )
    client.app.state.prover._jobs["A1"] = job
    page = client.get("/questions/A1").text
    assert "12,345" in page and HOSTILE not in page and page.count('<figure class="plot"><svg') == 2
    tags = TagParser(page).found
    assert not any(
        name in ("iframe", "style") or any(key.startswith("on") for key in attributes) or "style" in attributes
        for name, attributes in tags
    )
    assert all(
        attributes["src"].startswith(("data:image/", "/static/")) for _, attributes in tags if "src" in attributes
    )


def create_prover(folder: Path, body: str, timeout: float = prover.TIMEOUT_SECONDS) -> Prover:
    """Create a prover whose worker process runs ``body`` for each request."""
    runner = Prover(folder, timeout)
    runner.worker.command = write_worker(folder, body)
    return runner


def test_evidence_is_computed_one_at_a_time_by_one_warm_process(tmp_path: Path) -> None:
    async def run_jobs() -> list[prover.EvidenceJob]:
        runner = create_prover(tmp_path, ANSWERS)
        jobs = [runner.submit("A1"), runner.submit("A2", "image"), runner.submit("A1")]
        assert jobs[0] is jobs[2]
        while not all(job.is_over for job in jobs):
            assert sum(job.state == "running" for job in jobs[:2]) <= 1
            await asyncio.sleep(0.01)
        await runner.close()
        return jobs

    first, second, _ = asyncio.run(run_jobs())
    assert (
        first.state == second.state == "done"
        and second.response["case"] == "image"
        and (first.warm, second.warm) == (False, True)
    )
    assert first.response["results"][0]["value"] == second.response["results"][0]["value"] != os.getpid()


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("    time.sleep(60)\n", "did not end within 0 s"),
        ("    sys.exit(3)\n", "ended with exit code 3"),
        ("    print('?', flush=True)\n", ""),
    ],
)
def test_failed_computation_is_reported_and_the_next_job_has_a_new_process(
    tmp_path: Path, body: str, sentence: str
) -> None:
    async def run_jobs() -> tuple[prover.EvidenceJob, prover.EvidenceJob]:
        runner = create_prover(tmp_path, body, 0.4 if "sleep" in body else 30.0)
        failed = runner.submit("A1")
        while not failed.is_over:
            await asyncio.sleep(0.01)
        runner.timeout, runner.worker.command = 30.0, write_worker(tmp_path, ANSWERS)
        succeeded = runner.submit("A1")
        while not succeeded.is_over:
            await asyncio.sleep(0.01)
        await runner.close()
        return failed, succeeded

    failed, succeeded = asyncio.run(run_jobs())
    assert failed.state == "failed" and sentence in failed.response["error"] and succeeded.state == "done"


def test_running_and_waiting_jobs_can_be_stopped_and_the_queue_is_limited(tmp_path: Path) -> None:
    async def run_jobs() -> None:
        runner = create_prover(tmp_path, "    time.sleep(60)\n")
        jobs = [runner.submit(f"A{n}") for n in range(1, prover.MAX_WAITING + 2)]
        with pytest.raises(QueueFullError, match="questions is waiting"):
            runner.submit("B1")
        while jobs[0].state != "running" or runner.worker.process is None:
            await asyncio.sleep(0.01)
        pid = runner.worker.process.pid
        await runner.stop("A1")
        await runner.stop("A2")
        assert [job.state for job in jobs[:2]] == ["stopped", "stopped"] and not Path(f"/proc/{pid}").exists()
        await runner.close()
        assert all(job.is_over for job in jobs) and runner.worker.process is None

    asyncio.run(run_jobs())


def test_buttons_compute_and_stop_evidence(client: TestClient, tmp_path: Path) -> None:
    client.app.state.prover.worker.command = write_worker(tmp_path, ANSWERS)
    answer = client.post("/questions/A1/evidence", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/questions/A1#evidence")
    stream = client.get("/questions/A1/events").text
    assert "process A1" in stream and stream.rstrip().endswith("event: end\ndata: {}")
    assert "process A1" in client.get("/questions/A1").text
    assert client.post("/questions/A1/evidence/stop", follow_redirects=False).status_code == 303
    assert client.post("/questions/A1/evidence?case=none").status_code == 404
    assert client.get("/questions/A1/evidence").status_code == 405


def test_worker_reports_that_no_run_has_been_pushed(tmp_path: Path) -> None:
    async def run_jobs() -> prover.EvidenceJob:
        runner = Prover(tmp_path)
        job = runner.submit("A1")
        while not job.is_over:
            await asyncio.sleep(0.05)
        await runner.close()
        return job

    job = asyncio.run(run_jobs())
    assert job.state == "failed" and "Evidence needs a pushed run" in job.response["error"]


def test_rehearsal_has_every_question_and_a_card_hides_its_answer(client: TestClient) -> None:
    ids = next(attrs["data-ids"] for _, attrs in TagParser(client.get("/rehearse").text).found if "data-ids" in attrs)
    assert ids.split() == list(notes.read())
    card = client.get("/questions/A1/card").text
    assert "<details id=" in card and " open" not in card.partition("<summary>")[0] and "<html" not in card


def test_route_takes_fifteen_minutes_and_names_existing_questions(client: TestClient) -> None:
    steps = presenter.load_route()
    assert sum(step.seconds for step in steps) == 15 * 60 and steps[-1].begins == 15 * 60 - steps[-1].seconds
    assert {id_ for step in steps for id_ in step.questions} <= notes.questions().keys()
    page = client.get("/presenter").text
    assert all(step.title in page and f'data-page="{step.page}"' in page for step in steps)


def test_format_event_escapes_line_breaks() -> None:
    event = question.format_event("parts", {"a": "two\nlines\r\n"})
    assert event.count("\n") == 3 and json.loads(event.splitlines()[1].removeprefix("data: ")) == {
        "a": "two\nlines\r\n"
    }
