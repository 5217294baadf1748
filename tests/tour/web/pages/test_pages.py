"""Every page of the tour and every button in a headless Chromium, without console errors or external requests."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from support.browser import read_errors, requests_only, wait_until
from support.evidence_worker import ANSWERS, write_worker
from support.planted_home import plant_run
from support.tour_server import run_tour

from pipeline.home import Home
from pipeline.metadata import store
from tour.web.application import create_app

pytestmark = pytest.mark.system

SLOW = """
    time.sleep(60 if asked["id"] == "A2" else 0)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tour")
    plant_run(folder)
    return folder


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    app = create_app(home)
    app.state.prover.worker.command = write_worker(home, SLOW + ANSWERS)
    with run_tour(app) as served:
        yield served


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    with browser.new_page(base_url=address) as page:
        page.goto("/")
        yield page
        assert read_errors(page) == [] and requests_only(page, address)


def test_system_page_shows_a_change_without_a_reload(page: Page, home: Path) -> None:
    wait_until(page, "document.getElementById('live').textContent.includes('live')")
    page.evaluate("document.querySelector('.dag a').focus()")
    before = page.evaluate("document.activeElement.getAttribute('href')")
    store.save(Home(home).metadata, replace(plant_run(home), reason="version 7 <b>&", state="refused"))
    wait_until(page, "document.getElementById('run-fraud').textContent.includes('version 7 <b>&')")
    wait_until(page, "document.getElementById('happened').textContent.includes('refused: version 7')")
    assert page.evaluate("document.activeElement.getAttribute('href')") == before
    assert page.evaluate("document.querySelectorAll('.dag .node').length") == 5


def test_chosen_theme_is_kept_on_other_pages(page: Page) -> None:
    page.click("#theme")
    chosen = page.evaluate("document.documentElement.dataset.theme")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.goto("/presenter")
    assert page.evaluate("document.documentElement.dataset.theme") == chosen in ("dark", "light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == background
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") != chosen


def test_question_list_is_filtered_while_typing(page: Page) -> None:
    page.goto("/questions")
    page.evaluate("(f => { f.value = 'pca'; f.dispatchEvent(new Event('input')); })(document.getElementById('q'))")
    shown = page.evaluate("[...document.querySelectorAll('#questions li:not([hidden]) .id')].map(id => id.textContent)")
    assert "A20" in shown and len(shown) < 20 and page.text_content("#match-count") == f"{len(shown)} questions"
    page.click(".search button")
    wait_until(page, "location.search === '?q=pca' && document.querySelector('#questions .id')")
    assert page.text_content("#questions .id") == "A20"


def test_answer_is_hidden_and_evidence_is_computed_and_stopped(page: Page) -> None:
    page.goto("/questions/A1")
    assert page.evaluate("document.getElementById('answer').open") is False
    page.click("#answer summary")
    assert page.evaluate("document.getElementById('answer').open") is True
    page.click("#evidence button")
    wait_until(page, "document.getElementById('evidence').textContent.includes('process A1')")
    assert page.text_content("#evidence button") == "Compute again"
    page.goto("/questions/A2")
    page.click("#evidence button")
    wait_until(page, "document.querySelector('#evidence button').textContent === 'Stop'")
    wait_until(
        page, "document.querySelector('[data-since]') && Number(document.querySelector('[data-since]').textContent) > 0"
    )
    page.click("#evidence button")
    wait_until(page, "document.getElementById('evidence').textContent.includes('stopped before it ended')")


def test_rehearsal_draws_questions_and_keeps_a_score(page: Page) -> None:
    page.goto("/rehearse")
    wait_until(page, "document.querySelector('#card h2')")
    page.click("#show")
    assert page.evaluate("document.getElementById('answer').open") is True
    for knew, key in ((True, ""), (False, ""), (True, "k"), (False, "n")):
        drawn = page.text_content("#card .id")
        page.keyboard.press(key) if key else page.click("#knew" if knew else "#missed")
        wait_until(page, f"document.querySelector('#card .id').textContent !== '{drawn}'")
    assert "2 known of" in page.text_content("#score") or "1 known of" in page.text_content("#score")
    page.goto("/rehearse")
    assert page.evaluate("document.querySelectorAll('.marks [class]').length") > 1
    page.click("#forget")
    assert page.text_content("#score").startswith("0 known of 0 drawn")


def test_presenter_is_controlled_by_keys_and_its_clock_continues_after_a_reload(page: Page) -> None:
    page.goto("/presenter")
    page.evaluate("window.open = (url, name) => { window.opened = [url, name]; }")
    now = "[...document.querySelectorAll('.step')].findIndex(step => step.getAttribute('aria-current') === 'step')"
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    page.keyboard.press(" ")
    page.keyboard.press("o")
    assert page.evaluate(now) == 2 and page.evaluate("window.opened") == ["/stages/fraud/StatisticsGen", "audience"]
    wait_until(page, "document.getElementById('spent').textContent !== '0:00'")
    page.goto("/questions")
    page.goto("/presenter")
    assert (
        page.evaluate(now) == 2
        and page.text_content("#spent") != "0:00"
        and page.text_content("#go").startswith("Pause")
    )
    page.evaluate("window.open = () => 0")
    for button in ("#next", "#back", "#open", "#go", "#reset"):
        page.click(button)
    assert (
        page.evaluate(now) == 0
        and page.text_content("#spent") == "0:00"
        and page.text_content("#pace") == "Not started"
    )


@pytest.mark.parametrize("path", ["/", "/questions", "/questions/A1", "/rehearse", "/presenter", "/nothing"])
def test_page_fits_a_phone_and_its_controls_have_names(browser: Browser, address: str, path: str) -> None:
    with browser.new_page(base_url=address, viewport={"width": 390, "height": 844}, is_mobile=True) as page:
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        named = "e => e.textContent.trim() || e.getAttribute('aria-label')"
        assert page.evaluate(f"[...document.querySelectorAll('a, button, summary')].every({named})")
        assert page.locator("h1").count() == 1 and page.evaluate("document.querySelector('.skip').hash") == "#content"
        assert page.locator("[style], script:not([src])").count() == 0
        assert [error for error in read_errors(page) if path != "/nothing" or "404" not in error] == []
        assert requests_only(page, address)
