"""The questions of the tour: pages, search, and evidence that is computed elsewhere, one piece at a time."""

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
from tour.web.app import create
from tour.web.pages import presenter, question
from tour.web.prover import BusyError, Prover

pytestmark = pytest.mark.system

BASE = "http://127.0.0.1"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create(tmp_path), base_url=BASE) as opened:
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
def test_search_finds_the_best_first(client: TestClient, words: str, first: str) -> None:
    links = [
        held["href"]
        for name, held in TagParser(client.get("/questions", params={"q": words}).text).found
        if name == "a" and "href" in held
    ]
    assert next(link for link in links if link.startswith("/questions/")) == f"/questions/{first}"


def test_words_that_nothing_has_are_said_back_as_text(client: TestClient) -> None:
    page = client.get("/questions", params={"q": "<script>zzqx</script>"}).text
    assert "Nothing has these words" in page and "<script>zzqx" not in page and "&lt;script&gt;zzqx" in page


def test_the_code_is_that_of_the_file_now_without_styles_of_its_own(client: TestClient) -> None:
    note = notes.read()["A29"]
    page = client.get("/questions/a29").text
    number, line = next((n, text) for n, text in note.source[1:] if text.strip())
    assert f"{note.path}:{note.line}" in page and f">{number}</span>" in page and line.split()[0] in page
    assert not any("style" in held or any(key.startswith("on") for key in held) for _, held in TagParser(page).found)


@pytest.mark.parametrize("path", ["/questions/Z9", "/questions/Z9/card", "/questions/..%2fA1", "/questions/Z9/events"])
def test_what_is_no_question_is_not_found(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404
    assert client.get(path, headers={"accept": "application/json"}).json()["error"]


def test_evidence_of_every_kind_is_shown_and_nothing_in_it_becomes_markup(client: TestClient) -> None:
    job = prover.Job(
        "A1",
        None,
        "done",
        told={"case": "fraud", "seconds": 0.5, "results": [render.to_json(one) | {"svg": svg(one)} for one in RESULTS]},
    )
    client.app.state.prover._jobs["A1"] = job
    page = client.get("/questions/A1").text
    assert "12,345" in page and HOSTILE not in page and page.count("data:image/svg+xml;base64,") == 3
    tags = TagParser(page).found
    assert not any(
        name in ("iframe", "style") or any(key.startswith("on") for key in held) or "style" in held
        for name, held in tags
    )
    assert all(held["src"].startswith(("data:image/", "/static/")) for name, held in tags if "src" in held)


def test_evidence_comes_from_one_process_that_stays_and_a_piece_at_a_time(tmp_path: Path) -> None:
    async def asked() -> list[prover.Job]:
        one = Prover(tmp_path, command=write_worker(tmp_path, ANSWERS))
        jobs = [one.ask("A1"), one.ask("A2", "image"), one.ask("A1")]
        assert jobs[0] is jobs[2]
        while not all(job.over for job in jobs):
            assert sum(job.state == "running" for job in jobs[:2]) <= 1
            await asyncio.sleep(0.01)
        await one.close()
        return jobs

    first, second, _ = asyncio.run(asked())
    assert (
        first.state == second.state == "done"
        and second.told["case"] == "image"
        and (first.warm, second.warm) == (False, True)
    )
    assert first.told["results"][0]["value"] == second.told["results"][0]["value"] != os.getpid()


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("    time.sleep(60)\n", "not done after 0 s"),
        ("    sys.exit(3)\n", "ended with status 3"),
        ("    print('?', flush=True)\n", ""),
    ],
)
def test_evidence_that_does_not_come_is_given_up_and_the_next_has_a_new_process(
    tmp_path: Path, body: str, sentence: str
) -> None:
    async def asked() -> tuple[prover.Job, prover.Job]:
        one = Prover(tmp_path, limit=0.4 if "sleep" in body else 30.0, command=write_worker(tmp_path, body))
        lost = one.ask("A1")
        while not lost.over:
            await asyncio.sleep(0.01)
        one.limit, one.command = 30.0, write_worker(tmp_path, ANSWERS)
        found = one.ask("A1")
        while not found.over:
            await asyncio.sleep(0.01)
        await one.close()
        return lost, found

    lost, found = asyncio.run(asked())
    assert lost.state == "failed" and sentence in lost.told["error"] and found.state == "done"


def test_what_runs_can_be_stopped_and_what_waits_too_and_there_is_a_limit(tmp_path: Path) -> None:
    async def asked() -> None:
        one = Prover(tmp_path, command=write_worker(tmp_path, "    time.sleep(60)\n"))
        jobs = [one.ask(f"A{n}") for n in range(1, prover.WAITING + 2)]
        with pytest.raises(BusyError, match="wait for their evidence"):
            one.ask("B1")
        while jobs[0].state != "running" or one.process is None:
            await asyncio.sleep(0.01)
        pid = one.process.pid
        await one.stop("A1")
        await one.stop("A2")
        assert [job.state for job in jobs[:2]] == ["stopped", "stopped"] and not Path(f"/proc/{pid}").exists()
        await one.close()
        assert all(job.over for job in jobs) and one.process is None

    asyncio.run(asked())


def test_the_buttons_of_a_page(client: TestClient, tmp_path: Path) -> None:
    client.app.state.prover.command = write_worker(tmp_path, ANSWERS)
    answer = client.post("/questions/A1/evidence", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/questions/A1#evidence")
    told = client.get("/questions/A1/events").text
    assert "process A1" in told and told.rstrip().endswith("event: end\ndata: {}")
    assert "process A1" in client.get("/questions/A1").text
    assert client.post("/questions/A1/evidence/stop", follow_redirects=False).status_code == 303
    assert client.post("/questions/A1/evidence?case=none").status_code == 404
    assert client.get("/questions/A1/evidence").status_code == 405


def test_nothing_pushed_is_said_by_the_real_worker(tmp_path: Path) -> None:
    async def asked() -> prover.Job:
        one = Prover(tmp_path)
        job = one.ask("A1")
        while not job.over:
            await asyncio.sleep(0.05)
        await one.close()
        return job

    job = asyncio.run(asked())
    assert job.state == "failed" and "needs a pushed run" in job.told["error"]


def test_the_rehearsal_has_every_question_and_a_card_hides_its_answer(client: TestClient) -> None:
    ids = next(held["data-ids"] for _, held in TagParser(client.get("/rehearse").text).found if "data-ids" in held)
    assert ids.split() == list(notes.read())
    card = client.get("/questions/A1/card").text
    assert "<details id=" in card and " open" not in card.partition("<summary>")[0] and "<html" not in card


def test_the_route_takes_fifteen_minutes_and_leads_to_pages_that_are_there(client: TestClient) -> None:
    steps = presenter.route()
    assert sum(one.seconds for one in steps) == 15 * 60 and steps[-1].begins == 15 * 60 - steps[-1].seconds
    assert {id_ for one in steps for id_ in one.questions} <= notes.questions().keys()
    page = client.get("/presenter").text
    assert all(one.title in page and f'data-page="{one.page}"' in page for one in steps)


def test_what_is_streamed_is_one_event_a_message() -> None:
    told = question.message("parts", {"a": "two\nlines\r\n"})
    assert told.count("\n") == 3 and json.loads(told.splitlines()[1].removeprefix("data: ")) == {"a": "two\nlines\r\n"}
