"use strict";
// The movable threshold: counts come with the page, so that nothing is asked while it moves.
const percent = (value) => (Number.isFinite(value) ? `${(100 * value).toFixed(1)}%` : "none");
const write = (section, values) => {
  for (const place of section.querySelectorAll("[data-out]")) {
    if (place.dataset.out in values) place.textContent = values[place.dataset.out];
  }
};

function threshold(section) {
  const told = JSON.parse(section.dataset.told);
  const slider = section.querySelector("input[type=range]");
  const rows = told.positives + told.negatives;
  const prices = told.prices;
  const line = (at) => {
    const [tp, fp] = [told.tp[at], told.fp[at]];
    const [fn, tn] = [told.positives - tp, told.negatives - fp];
    return { tp, fp, fn, tn, recall: tp / told.positives, fpr: fp / told.negatives, precision: tp / (tp + fp),
      cost: (fn * prices.miss + fp * prices.review) / rows };
  };
  const show = () => {
    const at = Number(slider.value), one = line(at);
    write(section, { threshold: told.threshold[at].toFixed(4), tp: one.tp.toLocaleString("en"), fp: one.fp.toLocaleString("en"),
      fn: one.fn.toLocaleString("en"), tn: one.tn.toLocaleString("en"), recall: percent(one.recall),
      precision: percent(one.precision), cost: one.cost.toFixed(4) });
    slider.setAttribute("aria-valuetext", `threshold ${told.threshold[at].toFixed(4)}, recall ${percent(one.recall)}, precision ${percent(one.precision)}`);
    for (const point of section.querySelectorAll(".moved")) {
      const [left, right, floor, top] = point.dataset.frame.split(" ").map(Number);
      const [x, y] = [one[point.dataset.x], one[point.dataset.y]];
      point.toggleAttribute("hidden", !Number.isFinite(x + y));
      if (Number.isFinite(x + y)) {
        point.setAttribute("cx", left + x * (right - left));
        point.setAttribute("cy", floor + y * (top - floor));
      }
    }
  };
  const cheapest = () => told.threshold.reduce((best, _, at) => (line(at).cost < line(best).cost ? at : best), 0);
  slider.addEventListener("input", show);
  for (const button of section.querySelectorAll("[data-to]")) {
    button.addEventListener("click", () => {
      slider.value = button.dataset.to === "served" ? told.served : cheapest();
      show();
    });
  }
  for (const price of section.querySelectorAll("[data-price]")) {
    price.addEventListener("input", () => {
      prices[price.dataset.price] = Math.max(0, Number(price.value) || 0);
      show();
    });
  }
  for (const held of section.querySelectorAll(":disabled")) held.disabled = false;
  show();
}

function confidence(section) {
  const told = JSON.parse(section.dataset.told);
  const slider = section.querySelector("input[type=range]");
  const show = () => {
    const at = Number(slider.value);
    const [answered, right] = [told.answered[at], told.right[at]];
    write(section, { threshold: told.threshold[at].toFixed(4), answered: answered.toLocaleString("en"),
      wrong: (answered - right).toLocaleString("en"), accuracy: percent(right / answered), left: (told.rows - answered).toLocaleString("en") });
  };
  slider.addEventListener("input", show);
  slider.disabled = false;
  show();
}

async function later(section) {
  try {
    const response = await fetch(section.dataset.from);
    const text = await response.text();
    if (!response.ok) throw new Error(`${response.status}`);
    section.lastElementChild.remove();
    section.insertAdjacentHTML("beforeend", text); // the server has escaped what comes from data
  } catch (error) {
    section.lastElementChild.textContent = `It cannot be shown (${error.message}).`;
  }
}

document.querySelectorAll(".threshold").forEach(threshold);
document.querySelectorAll(".confidence").forEach(confidence);
document.querySelectorAll(".later").forEach(later);
