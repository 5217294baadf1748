"""The Try page in a browser: a drawn digit, a sample and a purchase, each answered by three runtimes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import edge_models
from support.browser import wait_until
from support.programs import needs
from support.tour_server import run_tour
from support.tried_home import create_tensor_process, flatten_first_row

from serving.browser import chromium
from serving.browser.chromium import Chromium
from tour.web import trial
from tour.web.application import create_app

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def page() -> Iterator[Chromium]:
    needs(*chromium.PROGRAMS)
    with Chromium("about:blank") as opened:
        yield opened


@pytest.fixture
def browser(tried_home: Path, tried_gateway: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
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


def read_comparison(page: Chromium) -> str:
    wait_until(page, "document.querySelector('#equal').dataset.equal")
    return page.evaluate("document.querySelector('#equal').textContent")


def test_drawn_digit_and_sample_are_answered(page: Chromium, browser: str) -> None:
    page.reopen(f"{browser}/try/image")
    wait_until(page, "window.ready")
    x, y = page.evaluate("(r => [r.x, r.y])(document.getElementById('drawing').getBoundingClientRect())")
    page.drag([(x + 60, y + 60), (x + 200, y + 60), (x + 120, y + 230)])
    assert read_comparison(page).startswith("Equal: the largest difference from the server is 0.0e+0 in Python and ")
    assert "Class: " in page.evaluate("document.querySelector('#verdict').textContent")
    assert page.evaluate("document.querySelector('#answers').tBodies[0].rows.length") == 4
    link = page.evaluate("document.querySelector('#trail').getAttribute('href')")
    page.evaluate("document.querySelector('#clear').click()")
    page.evaluate("document.querySelector('#equal').removeAttribute('data-equal')")
    page.evaluate("document.querySelector('[data-label=upright]').click()")
    read_comparison(page)
    assert page.evaluate("document.querySelector('#trail').getAttribute('href')") != link
    page.evaluate("document.querySelector('#send').click()")
    wait_until(page, "document.querySelector('#verdict').textContent.startsWith('Draw a digit')")
    assert page.console_errors == [] and all(url.startswith((browser, "data:")) for url in page.requests)


def test_purchase_from_a_preset_is_answered(page: Chromium, browser: str) -> None:
    page.reopen(f"{browser}/try/fraud")
    wait_until(page, "window.ready")
    page.evaluate("document.querySelector('[data-preset=unusual]').click()")
    assert page.evaluate("document.querySelector('#f-amount').value") == "5000"
    page.evaluate("document.querySelector('[data-preset=typical]').click()")
    page.evaluate("document.querySelector('#f-amount').value = 700")
    page.evaluate("document.querySelector('#send').click()")
    assert read_comparison(page).startswith("Equal")
    assert page.evaluate("document.querySelector('#verdict').textContent") == "Decision: stop this purchase."
    first = page.evaluate("document.querySelector('#f-transaction_id').value")
    page.evaluate("document.querySelector('#f-amount').value = -4")
    page.evaluate("document.querySelector('#send').click()")
    wait_until(page, "document.querySelector('#verdict').textContent.startsWith('No answer: ')")
    assert page.evaluate("document.querySelector('#f-transaction_id').value") != first
    # The browser logs the refused request as a failed load.
    assert all("422" in error for error in page.console_errors) and len(page.console_errors) == 1
    assert all(url.startswith((browser, "data:")) for url in page.requests)
