"""Every page of the tour and every button in a headless Chromium, without console errors or external requests."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.browser import wait_until
from support.evidence_worker import ANSWERS, write_worker
from support.planted_home import plant_run
from support.programs import needs
from support.tour_server import run_tour

from pipeline.home import Home
from pipeline.metadata import store
from serving.browser import chromium
from serving.browser.chromium import Chromium
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
    app.state.prover.command = write_worker(home, SLOW + ANSWERS)
    with run_tour(app) as served:
        yield served


@pytest.fixture(scope="module")
def browser(address: str) -> Iterator[Chromium]:
    needs(*chromium.PROGRAMS)
    with Chromium(f"{address}/") as opened:
        yield opened


@pytest.fixture
def page(browser: Chromium, address: str) -> Iterator[Chromium]:
    browser.reopen(f"{address}/")
    yield browser
    assert browser.console_errors == []
    assert all(url.startswith((address, "data:", "about:")) for url in browser.requests)


def go(page: Chromium, address: str, path: str) -> None:
    page._call("Page.navigate", {"url": address + path})
    wait_until(page, f"location.pathname === '{path.partition('?')[0]}' && document.readyState === 'complete'")


def text(page: Chromium, selector: str) -> str:
    return page.evaluate(f"document.querySelector('{selector}').textContent")


def click(page: Chromium, selector: str) -> None:
    page.evaluate(f"document.querySelector('{selector}').click()")


def press(page: Chromium, key: str) -> None:
    page.evaluate(f"document.body.dispatchEvent(new KeyboardEvent('keydown', {{ key: '{key}', bubbles: true }}))")


def test_system_page_shows_a_change_without_a_reload(page: Chromium, home: Path) -> None:
    wait_until(page, "document.getElementById('live').textContent.includes('live')")
    page.evaluate("document.querySelector('.dag a').focus()")
    before = page.evaluate("document.activeElement.getAttribute('href')")
    store.save(Home(home).metadata, replace(plant_run(home), reason="version 7 <b>&", state="refused"))
    wait_until(page, "document.getElementById('run-fraud').textContent.includes('version 7 <b>&')")
    wait_until(page, "document.getElementById('happened').textContent.includes('refused: version 7')")
    assert page.evaluate("document.activeElement.getAttribute('href')") == before
    assert page.evaluate("document.querySelectorAll('.dag .node').length") == 5


def test_chosen_theme_is_kept_on_other_pages(page: Chromium, address: str) -> None:
    click(page, "#theme")
    chosen = page.evaluate("document.documentElement.dataset.theme")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    go(page, address, "/presenter")
    assert page.evaluate("document.documentElement.dataset.theme") == chosen in ("dark", "light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == background
    click(page, "#theme")
    assert page.evaluate("document.documentElement.dataset.theme") != chosen


def test_question_list_is_filtered_while_typing(page: Chromium, address: str) -> None:
    go(page, address, "/questions")
    page.evaluate("(f => { f.value = 'pca'; f.dispatchEvent(new Event('input')); })(document.getElementById('q'))")
    shown = page.evaluate("[...document.querySelectorAll('#questions li:not([hidden]) .id')].map(id => id.textContent)")
    assert "A20" in shown and len(shown) < 20 and text(page, "#match-count") == f"{len(shown)} questions"
    click(page, ".search button")
    wait_until(page, "location.search === '?q=pca' && document.querySelector('#questions .id')")
    assert text(page, "#questions .id") == "A20"


def test_answer_is_hidden_and_evidence_is_computed_and_stopped(page: Chromium, address: str) -> None:
    go(page, address, "/questions/A1")
    assert page.evaluate("document.getElementById('answer').open") is False
    click(page, "#answer summary")
    assert page.evaluate("document.getElementById('answer').open") is True
    click(page, "#evidence button")
    wait_until(page, "document.getElementById('evidence').textContent.includes('process A1')")
    assert text(page, "#evidence button") == "Compute again"
    go(page, address, "/questions/A2")
    click(page, "#evidence button")
    wait_until(page, "document.querySelector('#evidence button').textContent === 'Stop'")
    wait_until(
        page, "document.querySelector('[data-since]') && Number(document.querySelector('[data-since]').textContent) > 0"
    )
    click(page, "#evidence button")
    wait_until(page, "document.getElementById('evidence').textContent.includes('stopped before it ended')")


def test_rehearsal_draws_questions_and_keeps_a_score(page: Chromium, address: str) -> None:
    go(page, address, "/rehearse")
    wait_until(page, "document.querySelector('#card h2')")
    click(page, "#show")
    assert page.evaluate("document.getElementById('answer').open") is True
    for knew, key in ((True, ""), (False, ""), (True, "k"), (False, "n")):
        drawn = text(page, "#card .id")
        press(page, key) if key else click(page, "#knew" if knew else "#missed")
        wait_until(page, f"document.querySelector('#card .id').textContent !== '{drawn}'")
    assert "2 known of" in text(page, "#score") or "1 known of" in text(page, "#score")
    go(page, address, "/rehearse")
    assert page.evaluate("document.querySelectorAll('.marks [class]').length") > 1
    click(page, "#forget")
    assert text(page, "#score").startswith("0 known of 0 drawn")


def test_presenter_is_controlled_by_keys_and_its_clock_continues_after_a_reload(page: Chromium, address: str) -> None:
    go(page, address, "/presenter")
    page.evaluate("window.open = (url, name) => { window.opened = [url, name]; }")
    now = "[...document.querySelectorAll('.step')].findIndex(step => step.getAttribute('aria-current') === 'step')"
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"):
        press(page, key)
    press(page, " ")
    press(page, "o")
    assert page.evaluate(now) == 2 and page.evaluate("window.opened") == ["/stages/fraud/StatisticsGen", "audience"]
    wait_until(page, "document.getElementById('spent').textContent !== '0:00'")
    go(page, address, "/questions")
    go(page, address, "/presenter")
    assert page.evaluate(now) == 2 and text(page, "#spent") != "0:00" and text(page, "#go").startswith("Pause")
    page.evaluate("window.open = () => 0")
    for button in ("#next", "#back", "#open", "#go", "#reset"):
        click(page, button)
    assert page.evaluate(now) == 0 and text(page, "#spent") == "0:00" and text(page, "#pace") == "Not started"


@pytest.mark.parametrize("path", ["/", "/questions", "/questions/A1", "/rehearse", "/presenter", "/nothing"])
def test_page_fits_a_phone_and_its_controls_have_names(page: Chromium, address: str, path: str) -> None:
    page._call(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    )
    go(page, address, path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    named = "e => e.textContent.trim() || e.getAttribute('aria-label')"
    assert page.evaluate(f"[...document.querySelectorAll('a, button, summary')].every({named})")
    assert (
        page.evaluate("document.querySelectorAll('h1').length") == 1
        and page.evaluate("document.querySelector('.skip').hash") == "#content"
    )
    assert page.evaluate("document.querySelectorAll('[style], script:not([src])').length") == 0
    page.console_errors[:] = [error for error in page.console_errors if path != "/nothing" or "404" not in error]
