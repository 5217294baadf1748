"""The Try page in a browser: a drawn digit, a sample and a purchase, each answered by three runtimes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page
from support import edge_models
from support.browser import drag, read_errors, requests_only, wait_until
from support.tour_server import run_tour
from support.tried_home import create_tensor_process, flatten_first_row

from tour.web import trial
from tour.web.application import create_app

pytestmark = pytest.mark.system


@pytest.fixture
def address(tried_home: Path, tried_gateway: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a tour with a gateway and small models; the server's outputs are computed with NumPy."""
    edge_models.needs_litert_js()
    rows = {"fraud": edge_models.draw_mixed_rows(3), "image": edge_models.draw_line_rows(3)}

    async def compare(self: trial.LiteComparer, case: str, identity: str) -> trial.PredictionComparison:
        inputs, expected = rows[case]
        names = edge_models.CLASSES if case == "image" else ()
        return trial.PredictionComparison(
            2, flatten_first_row(inputs), flatten_first_row(expected), flatten_first_row(expected), 7.0, 1e-4, names
        )

    monkeypatch.setattr(trial.LiteComparer, "compare", compare)
    app = create_app(tried_home, tried_gateway)
    app.state.lite_comparer = create_tensor_process(tried_home, rows["fraud"][0])
    with run_tour(app) as address:
        yield address


def read_comparison(page: Page) -> str:
    wait_until(page, "document.querySelector('#equal').dataset.equal")
    return page.text_content("#equal")


def test_drawn_digit_and_sample_are_answered(page: Page, address: str) -> None:
    page.goto(f"{address}/try/image")
    wait_until(page, "window.ready")
    x, y = page.evaluate("(r => [r.x, r.y])(document.getElementById('drawing').getBoundingClientRect())")
    drag(page, [(x + 60, y + 60), (x + 200, y + 60), (x + 120, y + 230)])
    assert read_comparison(page).startswith("Equal: the largest difference from the server is 0.0e+0 in Python and ")
    assert "Class: " in page.text_content("#verdict")
    assert page.evaluate("document.querySelector('#answers').tBodies[0].rows.length") == 4
    link = page.get_attribute("#trail", "href")
    page.click("#clear")
    page.evaluate("document.querySelector('#equal').removeAttribute('data-equal')")
    page.click("[data-label=upright]")
    read_comparison(page)
    assert page.get_attribute("#trail", "href") != link
    page.click("#send")
    wait_until(page, "document.querySelector('#verdict').textContent.startsWith('Draw a digit')")
    assert read_errors(page) == [] and requests_only(page, address)


def test_purchase_from_a_preset_is_answered(page: Page, address: str) -> None:
    page.goto(f"{address}/try/fraud")
    wait_until(page, "window.ready")
    page.click("[data-preset=unusual]")
    assert page.input_value("#f-amount") == "5000"
    page.click("[data-preset=typical]")
    page.fill("#f-amount", "700")
    page.click("#send")
    assert read_comparison(page).startswith("Equal")
    assert page.text_content("#verdict") == "Decision: stop this purchase."
    first = page.input_value("#f-transaction_id")
    page.fill("#f-amount", "-4")
    page.click("#send")
    wait_until(page, "document.querySelector('#verdict').textContent.startsWith('No answer: ')")
    assert page.input_value("#f-transaction_id") != first
    (error,) = read_errors(page)  # the browser logs the refused request as a failed load
    assert "422" in error and requests_only(page, address)
