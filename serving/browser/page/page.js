// The page: select a use case, then an example or a drawing; shows the model's outputs next to the SavedModel's.
import { Board, show } from "/board.js";
import { load, run } from "/model.js";

const byId = (id) => document.getElementById(id);
const element = (tag, text = "", props = {}) => Object.assign(document.createElement(tag), { textContent: text }, props);
const digits = (value) => {
  if (typeof value !== "number") return String(value);
  return value && Math.abs(value) < 1e-4 ? value.toExponential(2) : String(Number(value.toPrecision(6)));
};
const TIMED_ROWS = 50; // number of rows whose mean time is shown
const fetchJson = async (path) => {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
};

let cases = [], selected, frame, turn = 0; // frame: name and shape of the picture input of the use case, if it has one
const board = new Board(byId("drawing"), () => runDrawing());

async function choose(useCase) {
  selected = useCase;
  byId("about").textContent = `${useCase.name}, version ${useCase.version}: ${(useCase.bytes / 1000).toFixed(0)} kB, float32, one row per call.`;
  for (const tab of byId("cases").children) tab.setAttribute("aria-pressed", tab.textContent === useCase.name);
  const inputs = (await load(useCase.name)).getInputDetails();
  frame = inputs.length === 1 && inputs[0].shape.length === 4 ? { name: inputs[0].name, shape: [...inputs[0].shape].slice(1) } : null;
  byId("board").hidden = !frame;
  board.clear();
  const numbers = Array.from({ length: useCase.samples }, (_, number) => number);
  const samples = await Promise.all(numbers.map((number) => fetchJson(`/cases/${useCase.name}/samples/${number}.json`)));
  byId("samples").replaceChildren(...samples.map(createButton));
  await pick(samples[0], byId("samples").firstChild);
}

function createButton(sample) {
  const button = element("button", "", { type: "button" });
  if (frame) {
    button.append(element("canvas", "", { className: "pixels" }));
    show(button.firstChild, sample.input[frame.name], ...frame.shape);
  } else {
    button.textContent = scalars(sample).slice(0, 3).map(([, value]) => digits(value)).join(" · ");
  }
  button.addEventListener("click", () => pick(sample, button));
  return button;
}

const scalars = (sample) => Object.entries(sample.raw).filter(([, values]) => values.length === 1).map(([name, [value]]) => [name, value]);

async function pick(sample, button) {
  for (const other of byId("samples").children) other.setAttribute("aria-pressed", other === button);
  board.clear();
  if (frame) show(byId("model-input"), sample.input[frame.name], ...frame.shape);
  await showOutputs(sample.input, sample);
}

async function runDrawing() {
  for (const other of byId("samples").children) other.setAttribute("aria-pressed", false);
  const pixels = board.pixels(...frame.shape);
  show(byId("model-input"), pixels, ...frame.shape);
  await showOutputs({ [frame.name]: pixels });
}

async function showOutputs(inputs, sample) {
  const thisTurn = ++turn;
  const { outputs } = await run(selected.name, inputs);
  const repeated = Object.entries(inputs).map(([name, values]) => [name, Array(TIMED_ROWS).fill(values).flat()]);
  const { microseconds } = await run(selected.name, Object.fromEntries(repeated));
  if (thisTurn !== turn) return; // newer inputs have been selected meanwhile
  const rows = Object.entries(outputs).flatMap(([name, values]) => values.map((value, index) => [label(name, index, values), value, sample?.answer[name]?.[index]]));
  byId("verdict").textContent = verdict(outputs);
  byId("outputs").replaceChildren(line("th", "output", "this browser", "", sample ? "SavedModel" : ""), ...rows.map(([name, value, expected]) => line("td", name, digits(value), meter(name, value), expected === undefined ? "" : digits(expected))));
  const worst = Math.max(...rows.map(([, value, expected]) => Math.abs(value - expected)));
  byId("difference").textContent = `${microseconds.toFixed(0)} µs per row in this browser` + (sample ? `; largest difference from the SavedModel ${worst.toExponential(1)}` : "");
  byId("raw").replaceChildren(...(sample ? scalars(sample).map(([name, value]) => line("td", name, digits(value))) : []));
}

const label = (name, index, values) => (values.length === 1 ? name : selected.classes[index] ?? `${name} ${index}`);

function verdict(outputs) {
  if (selected.classes.length) {
    const [values] = Object.values(outputs);
    return `It is ${selected.classes[values.indexOf(Math.max(...values))]}.`;
  }
  return "decision" in outputs ? (outputs.decision[0] ? "Stop this purchase." : "Let it pass.") : "";
}

// Returns a bar for a probability; the colour of a score changes at the decision threshold of the served version.
function meter(name, value) {
  if (!(selected.classes.length || name === "score")) return "";
  return element("meter", "", { min: 0, max: 1, value, ...(name === "score" ? { high: selected.point.threshold, low: selected.point.threshold, optimum: 0 } : {}) });
}

function line(kind, ...cells) {
  const row = element("tr");
  for (const cell of cells) row.append(cell instanceof Node ? element(kind) : element(kind, cell));
  cells.forEach((cell, index) => cell instanceof Node && row.children[index].append(cell));
  return row;
}

async function start() {
  byId("clear").addEventListener("click", () => board.clear());
  cases = await fetchJson("/cases.json");
  byId("cases").replaceChildren(...cases.map((useCase) => element("button", useCase.name, { type: "button", onclick: () => choose(useCase) })));
  await choose(cases[0]);
}

// For programs: `ready` settles when the first outputs are shown, `run(case, {input: [numbers]})` runs the model on rows.
window.run = run;
window.choose = (name) => choose(cases.find((useCase) => useCase.name === name));
window.ready = start().then(() => cases.map((useCase) => useCase.name));
window.ready.catch((error) => (byId("verdict").textContent = `The page failed to load: ${error.message}`));
