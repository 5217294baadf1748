// The page: a case is chosen, an example picked or a picture drawn, and the answer shown beside the server's own.
import { Board, show } from "/board.js";
import { load, run } from "/model.js";

const at = (id) => document.getElementById(id);
const element = (tag, text = "", props = {}) => Object.assign(document.createElement(tag), { textContent: text }, props);
const digits = (value) => {
  if (typeof value !== "number") return String(value);
  return value && Math.abs(value) < 1e-4 ? value.toExponential(2) : String(Number(value.toPrecision(6)));
};
const TIMED = 50; // rows whose mean time is shown
const json = async (path) => {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
};

let cases = [], chosen, frame, shown = 0; // frame: name and shape of the picture that the case takes, if it takes one
const board = new Board(at("drawing"), () => drawn());

async function choose(one) {
  chosen = one;
  at("about").textContent = `${one.name}, version ${one.version}: ${(one.bytes / 1000).toFixed(0)} kB, float32, one row at a time.`;
  for (const tab of at("cases").children) tab.setAttribute("aria-pressed", tab.textContent === one.name);
  const inputs = (await load(one.name)).getInputDetails();
  frame = inputs.length === 1 && inputs[0].shape.length === 4 ? { name: inputs[0].name, shape: [...inputs[0].shape].slice(1) } : null;
  at("board").hidden = !frame;
  board.clear();
  const numbers = Array.from({ length: one.samples }, (_, number) => number);
  const samples = await Promise.all(numbers.map((number) => json(`/cases/${one.name}/samples/${number}.json`)));
  at("samples").replaceChildren(...samples.map(button));
  await pick(samples[0], at("samples").firstChild);
}

function button(sample) {
  const made = element("button", "", { type: "button" });
  if (frame) {
    made.append(element("canvas", "", { className: "pixels" }));
    show(made.firstChild, sample.input[frame.name], ...frame.shape);
  } else {
    made.textContent = scalars(sample).slice(0, 3).map(([, value]) => digits(value)).join(" · ");
  }
  made.addEventListener("click", () => pick(sample, made));
  return made;
}

const scalars = (sample) => Object.entries(sample.raw).filter(([, values]) => values.length === 1).map(([name, [value]]) => [name, value]);

async function pick(sample, made) {
  for (const other of at("samples").children) other.setAttribute("aria-pressed", other === made);
  board.clear();
  if (frame) show(at("seen"), sample.input[frame.name], ...frame.shape);
  await answer(sample.input, sample);
}

async function drawn() {
  for (const other of at("samples").children) other.setAttribute("aria-pressed", false);
  const pixels = board.pixels(...frame.shape);
  show(at("seen"), pixels, ...frame.shape);
  await answer({ [frame.name]: pixels });
}

async function answer(inputs, sample) {
  const turn = ++shown;
  const { outputs } = await run(chosen.name, inputs);
  const many = Object.entries(inputs).map(([name, values]) => [name, Array(TIMED).fill(values).flat()]);
  const { microseconds } = await run(chosen.name, Object.fromEntries(many));
  if (turn !== shown) return; // a later one has been asked for
  const rows = Object.entries(outputs).flatMap(([name, values]) => values.map((value, index) => [label(name, index, values), value, sample?.answer[name]?.[index]]));
  at("verdict").textContent = verdict(outputs);
  at("outputs").replaceChildren(line("th", "output", "here", "", sample ? "SavedModel" : ""), ...rows.map(([name, here, there]) => line("td", name, digits(here), meter(name, here), there === undefined ? "" : digits(there))));
  const worst = Math.max(...rows.map(([, here, there]) => Math.abs(here - there)));
  at("compared").textContent = `${microseconds.toFixed(0)} µs a row here` + (sample ? `; largest difference from the SavedModel's answer ${worst.toExponential(1)}` : "");
  at("raw").replaceChildren(...(sample ? scalars(sample).map(([name, value]) => line("td", name, digits(value))) : []));
}

const label = (name, index, values) => (values.length === 1 ? name : chosen.classes[index] ?? `${name} ${index}`);

function verdict(outputs) {
  if (chosen.classes.length) {
    const [values] = Object.values(outputs);
    return `It is ${chosen.classes[values.indexOf(Math.max(...values))]}.`;
  }
  return "decision" in outputs ? (outputs.decision[0] ? "Stop this purchase." : "Let it pass.") : "";
}

// Shares of one are drawn as a bar, with a mark at the threshold that is served.
function meter(name, value) {
  if (!(chosen.classes.length || name === "score")) return "";
  return element("meter", "", { min: 0, max: 1, value, ...(name === "score" ? { high: chosen.point.threshold, low: chosen.point.threshold, optimum: 0 } : {}) });
}

function line(kind, ...cells) {
  const row = element("tr");
  for (const cell of cells) row.append(cell instanceof Node ? element(kind) : element(kind, cell));
  cells.forEach((cell, index) => cell instanceof Node && row.children[index].append(cell));
  return row;
}

async function start() {
  at("clear").addEventListener("click", () => board.clear());
  cases = await json("/cases.json");
  at("cases").replaceChildren(...cases.map((one) => element("button", one.name, { type: "button", onclick: () => choose(one) })));
  await choose(cases[0]);
}

// For programs: `ready` settles when the first answer is on the page, `run(case, {input: [numbers]})` answers rows.
window.run = run;
window.choose = (name) => choose(cases.find((one) => one.name === name));
window.ready = start().then(() => cases.map((one) => one.name));
window.ready.catch((error) => (at("verdict").textContent = `It does not work: ${error.message}`));
