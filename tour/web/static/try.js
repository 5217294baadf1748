// Send one request and show the three answers side by side.
const at = (id) => document.getElementById(id);
const root = at("try");
const { case: name, browser } = root.dataset;
const rows = JSON.parse(root.dataset.rows);
const shape = root.dataset.shape ? JSON.parse(root.dataset.shape) : null;
const TIMED_CALLS = 50; // the mean time of these calls is shown
const MAX_VALUES = 12; // values of an output that get a row each
let turn = 0;

const element = (tag, text = "", props = {}) => Object.assign(document.createElement(tag), { textContent: text }, props);
const digits = (value) => (typeof value !== "number" ? (value ?? "…") : value && Math.abs(value) < 1e-4 ? value.toExponential(2) : String(Number(value.toPrecision(6))));
const fresh = () => `try-${crypto.getRandomValues(new Uint32Array(2)).join("")}`;

async function post(path, body) {
  const response = await fetch(path, { method: "POST", headers: { "content-type": "application/json", accept: "application/json" }, body: JSON.stringify(body) });
  const content = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(content.error ?? `the response has status ${response.status}`);
  return content;
}

async function runInBrowser(version, inputs) {
  if (!browser) return { reason: "LiteRT.js is not installed" };
  try {
    const { run } = await import("/model.js");
    const model = `${name}@${version}`;
    const { outputs } = await run(model, inputs);
    const repeated = Object.fromEntries(Object.entries(inputs).map(([key, values]) => [key, Array(TIMED_CALLS).fill(values).flat()]));
    const { microseconds } = await run(model, repeated);
    return { outputs, microseconds };
  } catch (error) {
    return { reason: error.message };
  }
}

export async function ask(body) {
  const number = ++turn;
  const late = () => number !== turn; // another request has been sent since
  at("answers").hidden = at("more").hidden = true;
  at("equal").textContent = "";
  at("equal").className = "";
  at("verdict").textContent = "Waiting for the server";
  try {
    const { milliseconds, answer } = await post(`/try/${name}/score`, body);
    if (late()) return;
    at("verdict").textContent = verdict(answer);
    at("trail").href = `/lineage/prediction/${encodeURIComponent(answer.prediction_id)}`;
    at("more").hidden = false;
    at("status").textContent = "Waiting for LiteRT: it gets the same input tensors as the server. TensorFlow computes them and takes some seconds to start the first time.";
    draw(answer, milliseconds, null, {});
    const lite = await post(`/try/${name}/lite`, { prediction_id: answer.prediction_id });
    if (late()) return;
    if (shape) await picture(lite.inputs);
    draw(answer, milliseconds, lite, {});
    const own = await runInBrowser(lite.version, lite.inputs);
    if (late()) return;
    draw(answer, milliseconds, lite, own);
    compare(lite, own);
    at("status").textContent = "The server's time includes the request to the gateway, the history lookup and the log write; LiteRT's time is the network alone.";
  } catch (error) {
    if (late()) return;
    if (at("answers").hidden) at("verdict").textContent = `No answer: ${error.message}`;
    at("status").textContent = at("answers").hidden ? "" : `The answers were not compared: ${error.message}`;
  }
}

const verdict = (answer) => (shape ? `Class: ${answer.decision}.` : answer.decision === "stop" ? "Decision: stop this purchase." : "Decision: let it pass.");

function draw(answer, milliseconds, lite, own) {
  const lines = [["model version", String(answer.version), lite ? String(lite.version) : "…", own.outputs ? String(lite.version) : own.reason ?? "…"]];
  lines.push(["time", `${milliseconds.toFixed(1)} ms`, lite ? `${lite.microseconds.toFixed(0)} µs per row` : "…", own.outputs ? `${own.microseconds.toFixed(0)} µs per row` : "…"]);
  const outputs = lite ? lite.server : answer.probabilities ? { probabilities: Object.values(answer.probabilities) } : { score: [answer.score] };
  const names = lite?.names?.length ? lite.names : Object.keys(answer.probabilities ?? {});
  for (const [key, values] of Object.entries(outputs)) {
    values.slice(0, MAX_VALUES).forEach((value, index) => {
      const label = values.length === 1 ? key : names[index] ?? `${key} ${index}`;
      lines.push([label, value, lite?.python[key]?.[index], own.outputs?.[key]?.[index]]);
    });
  }
  const body = at("answers").tBodies[0];
  body.replaceChildren(...lines.map(([label, ...cells]) => {
    const row = element("tr");
    row.append(element("th", label, { scope: "row" }), ...cells.map((cell) => element("td", digits(cell), { className: "n" })));
    if (String(label) === String(answer.decision)) row.className = "chosen";
    return row;
  }));
  at("answers").hidden = false;
}

function compare(lite, own) {
  const worst = (outputs) => Math.max(...Object.entries(lite.server).filter(([key]) => key !== "decision").flatMap(([key, values]) => values.map((value, index) => Math.abs(value - outputs[key][index]))));
  const differences = [["Python", worst(lite.python)], ...(own.outputs ? [["this browser", worst(own.outputs)]] : [])];
  const equal = differences.every(([, difference]) => difference <= lite.tolerance);
  at("equal").className = `notice ${equal ? "info" : "bad"}`;
  at("equal").textContent = `${equal ? "Equal" : "Not equal"}: the largest difference from the server is ${differences.map(([runtime, difference]) => `${difference.toExponential(1)} in ${runtime}`).join(" and ")}; the run's gate allows ${lite.tolerance}.${own.reason ? ` The browser has not answered: ${own.reason}.` : ""}`;
  at("equal").dataset.equal = equal;
}

async function picture(inputs) {
  const { show } = await import("/board.js").catch(() => ({}));
  const [values] = Object.values(inputs);
  if (show) show(at("seen"), values, shape.height, shape.width, shape.channels);
}

async function pictures() {
  let board;
  if (browser) {
    const { Board } = await import("/board.js");
    board = new Board(at("drawing"), () => send());
  }
  const send = () => {
    if (!board?.strokes.length) {
      at("verdict").textContent = browser ? "Draw a digit first, or choose a sample." : "Choose a sample.";
      return;
    }
    const flat = board.pixels(shape.height, shape.width, shape.channels).map((value) => Math.round(255 * value));
    const points = Array.from({ length: shape.height * shape.width }, (_, n) => (shape.channels === 1 ? flat[n] : flat.slice(3 * n, 3 * n + 3)));
    ask({ [rows.key]: fresh(), pixels: Array.from({ length: shape.height }, (_, y) => points.slice(y * shape.width, (y + 1) * shape.width)) });
  };
  at("send").addEventListener("click", send);
  at("clear").addEventListener("click", () => board?.clear());
  for (const button of document.querySelectorAll("[data-label]")) {
    button.addEventListener("click", () => {
      board?.clear();
      ask({ [rows.key]: fresh(), image: rows.samples[button.dataset.label].image });
    });
  }
}

function form() {
  const fields = at("form").elements;
  const counts = {};
  for (const button of document.querySelectorAll("[data-preset]")) {
    button.addEventListener("click", () => {
      const kind = button.dataset.preset;
      const number = (counts[kind] = ((counts[kind] ?? -1) + 1) % rows[kind].length);
      for (const [key, value] of Object.entries(rows[kind][number])) if (fields[key]) fields[key].value = value ?? "";
      at("status").textContent = `${kind === "unusual" ? "Unusual" : "Typical"} row ${number + 1} of ${rows[kind].length}.`;
    });
  }
  at("form").addEventListener("submit", (event) => {
    event.preventDefault();
    fields[rows.key].value = fresh();
    const body = {};
    for (const field of fields) {
      if (field.name && field.value !== "") body[field.name] = "number" in field.dataset ? Number(field.value) : field.value;
    }
    ask(body);
  });
}

if (shape) await pictures();
else if (at("form")) form();
window.ready = true;
