// A model of one row, compiled by LiteRT.js for the CPU; the first use of each loads it.
import { loadAndCompile, loadLiteRt, Tensor } from "/litert/core.js";

const runtime = loadLiteRt("/litert/wasm/");
const compiled = new Map();

export function load(name) {
  if (!compiled.has(name)) compiled.set(name, fetched(name));
  return compiled.get(name);
}

async function fetched(name) {
  const response = await fetch(`/cases/${name}/model.tflite`);
  if (!response.ok) throw new RangeError(`There is no case ${name} (${response.status}).`);
  const content = new Uint8Array(await response.arrayBuffer());
  await runtime;
  return loadAndCompile(content, { accelerator: "wasm" });
}

const size = (shape) => shape.reduce((product, side) => product * side, 1);

// Rows one after the other: flat arrays of numbers by name go in, flat arrays by name and microseconds a row come out.
export async function run(name, inputs) {
  const model = await load(name);
  const details = model.getInputDetails();
  const wanted = details.map((one) => one.name);
  if (wanted.length !== Object.keys(inputs).length || !wanted.every((one) => one in inputs)) {
    throw new RangeError(`${name} takes ${wanted.join(", ")}, not ${Object.keys(inputs).join(", ") || "nothing"}.`);
  }
  const counts = new Set(details.map((one) => inputs[one.name].length / size(one.shape)));
  const [rows] = counts;
  if (counts.size !== 1 || !Number.isInteger(rows)) throw new RangeError("The inputs are no whole, equal number of rows.");
  const outputs = {};
  let spent = 0;
  for (let row = 0; row < rows; row++) {
    const started = performance.now();
    for (const [key, values] of Object.entries(await one(model, details, inputs, row))) (outputs[key] ??= []).push(...values);
    spent += performance.now() - started;
  }
  return { outputs, microseconds: rows ? (1000 * spent) / rows : 0 };
}

async function one(model, details, inputs, row) {
  const tensors = {};
  for (const { name, dtype, shape } of details) {
    const count = size(shape);
    const values = inputs[name].slice(row * count, (row + 1) * count);
    tensors[name] = new Tensor(dtype === "int32" ? Int32Array.from(values) : Float32Array.from(values), shape);
  }
  const results = await model.run(tensors);
  // WebAssembly's memory is not collected: each tensor is freed by hand.
  Object.values(tensors).forEach((tensor) => tensor.delete());
  const answer = {};
  for (const [name, tensor] of Object.entries(results)) {
    answer[name] = Array.from(tensor.toTypedArray());
    tensor.delete();
  }
  return answer;
}
