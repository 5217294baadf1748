"""The Try page in a browser: a digit drawn, a sample chosen, a purchase sent, each answered three times."""

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
from tour.web.app import create

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def page() -> Iterator[Chromium]:
    needs(*chromium.PROGRAMS)
    with Chromium("about:blank") as opened:
        yield opened


@pytest.fixture
def browser(tried_home: Path, tried_gateway: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The tour's address, with a gateway, over small models; the server's outputs are NumPy's of the same tensors."""
    edge_models.needs_litert_js()
    known = {"fraud": edge_models.draw_mixed_rows(3), "image": edge_models.draw_line_rows(3)}

    async def answer(self: trial.Beside, case: str, identity: str) -> trial.Answered:
        given, expected = known[case]
        names = edge_models.CLASSES if case == "image" else ()
        return trial.Answered(
            2, flatten_first_row(given), flatten_first_row(expected), flatten_first_row(expected), 7.0, 1e-4, names
        )

    monkeypatch.setattr(trial.Beside, "answer", answer)
    app = create(tried_home, tried_gateway)
    app.state.beside = create_tensor_process(tried_home, known["fraud"][0])
    with run_tour(app) as address:
        yield address


def equal(page: Chromium) -> str:
    wait_until(page, "document.querySelector('#equal').dataset.equal")
    return page.evaluate("document.querySelector('#equal').textContent")


def test_a_digit_is_drawn_and_a_sample_chosen_in_a_browser(page: Chromium, browser: str) -> None:
    page.reopen(f"{browser}/try/image")
    wait_until(page, "window.ready")
    x, y = page.evaluate("(r => [r.x, r.y])(document.getElementById('drawing').getBoundingClientRect())")
    page.drag([(x + 60, y + 60), (x + 200, y + 60), (x + 120, y + 230)])
    assert equal(page).startswith("Equal: the largest difference from the server is 0.0e+0 in Python and ")
    assert "It is" in page.evaluate("document.querySelector('#verdict').textContent")
    assert page.evaluate("document.querySelector('#answers').tBodies[0].rows.length") == 4
    link = page.evaluate("document.querySelector('#trail').getAttribute('href')")
    page.evaluate("document.querySelector('#clear').click()")
    page.evaluate("document.querySelector('#equal').removeAttribute('data-equal')")
    page.evaluate("document.querySelector('[data-label=upright]').click()")
    equal(page)
    assert page.evaluate("document.querySelector('#trail').getAttribute('href')") != link
    page.evaluate("document.querySelector('#send').click()")
    wait_until(page, "document.querySelector('#verdict').textContent.startsWith('Draw something')")
    assert page.console_errors == [] and all(url.startswith((browser, "data:")) for url in page.requests)


def test_a_purchase_is_sent_with_presets_in_a_browser(page: Chromium, browser: str) -> None:
    page.reopen(f"{browser}/try/fraud")
    wait_until(page, "window.ready")
    page.evaluate("document.querySelector('[data-preset=odd]').click()")
    assert page.evaluate("document.querySelector('#f-amount').value") == "5000"
    page.evaluate("document.querySelector('[data-preset=usual]').click()")
    page.evaluate("document.querySelector('#f-amount').value = 700")
    page.evaluate("document.querySelector('#send').click()")
    assert equal(page).startswith("Equal")
    assert page.evaluate("document.querySelector('#verdict').textContent") == "Stop this purchase."
    first = page.evaluate("document.querySelector('#f-transaction_id').value")
    page.evaluate("document.querySelector('#f-amount').value = -4")
    page.evaluate("document.querySelector('#send').click()")
    wait_until(page, "document.querySelector('#verdict').textContent.startsWith('No answer: ')")
    assert page.evaluate("document.querySelector('#f-transaction_id').value") != first
    # A refused request is a failed load to the browser, and that alone.
    assert all("422" in one for one in page.console_errors) and len(page.console_errors) == 1
    assert all(url.startswith((browser, "data:")) for url in page.requests)
