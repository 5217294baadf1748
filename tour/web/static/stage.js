"use strict";
// The threshold slider: the page contains the counts of each threshold, so that moving it sends no request.
const percent = (value) => (Number.isFinite(value) ? `${(100 * value).toFixed(1)}%` : "none");
const write = (section, values) => {
  for (const output of section.querySelectorAll("[data-out]")) {
    if (output.dataset.out in values) output.textContent = values[output.dataset.out];
  }
};

function threshold(section) {
  const counts = JSON.parse(section.dataset.counts);
  const slider = section.querySelector("input[type=range]");
  const rows = counts.positives + counts.negatives;
  const prices = counts.prices;
  const ratesAt = (at) => {
    const [tp, fp] = [counts.tp[at], counts.fp[at]];
    const [fn, tn] = [counts.positives - tp, counts.negatives - fp];
    return { tp, fp, fn, tn, recall: tp / counts.positives, fpr: fp / counts.negatives, precision: tp / (tp + fp),
      cost: (fn * prices.miss + fp * prices.review) / rows };
  };
  const show = () => {
    const at = Number(slider.value), rates = ratesAt(at);
    write(section, { threshold: counts.threshold[at].toFixed(4), tp: rates.tp.toLocaleString("en"), fp: rates.fp.toLocaleString("en"),
      fn: rates.fn.toLocaleString("en"), tn: rates.tn.toLocaleString("en"), recall: percent(rates.recall),
      precision: percent(rates.precision), cost: rates.cost.toFixed(4) });
    slider.setAttribute("aria-valuetext", `threshold ${counts.threshold[at].toFixed(4)}, recall ${percent(rates.recall)}, precision ${percent(rates.precision)}`);
    for (const point of section.querySelectorAll(".moved")) {
      const [left, right, floor, top] = point.dataset.frame.split(" ").map(Number);
      const [x, y] = [rates[point.dataset.x], rates[point.dataset.y]];
      point.toggleAttribute("hidden", !Number.isFinite(x + y));
      if (Number.isFinite(x + y)) {
        point.setAttribute("cx", left + x * (right - left));
        point.setAttribute("cy", floor + y * (top - floor));
      }
    }
  };
  const cheapest = () => counts.threshold.reduce((best, _, at) => (ratesAt(at).cost < ratesAt(best).cost ? at : best), 0);
  slider.addEventListener("input", show);
  for (const button of section.querySelectorAll("[data-to]")) {
    button.addEventListener("click", () => {
      slider.value = button.dataset.to === "served" ? counts.served : cheapest();
      show();
    });
  }
  for (const price of section.querySelectorAll("[data-price]")) {
    price.addEventListener("input", () => {
      prices[price.dataset.price] = Math.max(0, Number(price.value) || 0);
      show();
    });
  }
  for (const control of section.querySelectorAll(":disabled")) control.disabled = false;
  show();
}

function confidence(section) {
  const counts = JSON.parse(section.dataset.counts);
  const slider = section.querySelector("input[type=range]");
  const show = () => {
    const at = Number(slider.value);
    const [answered, right] = [counts.answered[at], counts.right[at]];
    write(section, { threshold: counts.threshold[at].toFixed(4), answered: answered.toLocaleString("en"),
      wrong: (answered - right).toLocaleString("en"), accuracy: percent(right / answered), left: (counts.rows - answered).toLocaleString("en") });
  };
  slider.addEventListener("input", show);
  slider.disabled = false;
  show();
}

async function loadPart(section) {
  try {
    const response = await fetch(section.dataset.from);
    const text = await response.text();
    if (!response.ok) throw new Error(`${response.status}`);
    section.lastElementChild.remove();
    section.insertAdjacentHTML("beforeend", text); // the server has escaped all values from data
  } catch (error) {
    section.lastElementChild.textContent = `The result could not be loaded (${error.message}); reload the page to try again.`;
  }
}

document.querySelectorAll(".threshold").forEach(threshold);
document.querySelectorAll(".confidence").forEach(confidence);
document.querySelectorAll(".later").forEach(loadPart);
