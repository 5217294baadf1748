// One-row models, compiled by LiteRT.js for the CPU; each is loaded on first use.
import { loadAndCompile, loadLiteRt, Tensor } from "/litert/core.js";

const runtime = loadLiteRt("/litert/wasm/");
const compiled = new Map();

export function load(name) {
  if (!compiled.has(name)) compiled.set(name, fetchModel(name));
  return compiled.get(name);
}

async function fetchModel(name) {
  const response = await fetch(`/cases/${name}/model.tflite`);
  if (!response.ok) throw new RangeError(`The model of use case ${name} cannot be loaded (HTTP ${response.status}).`);
  const content = new Uint8Array(await response.arrayBuffer());
  await runtime;
  return loadAndCompile(content, { accelerator: "wasm" });
}

const size = (shape) => shape.reduce((product, length) => product * length, 1);

// Runs the model row by row: takes flat arrays of numbers by input name, returns flat arrays by output name and the mean
// time per row in microseconds.
export async function run(name, inputs) {
  const model = await load(name);
  const details = model.getInputDetails();
  const expected = details.map((input) => input.name);
  if (expected.length !== Object.keys(inputs).length || !expected.every((key) => key in inputs)) {
    throw new RangeError(`${name} takes ${expected.join(", ")}, not ${Object.keys(inputs).join(", ") || "nothing"}.`);
  }
  const counts = new Set(details.map((input) => inputs[input.name].length / size(input.shape)));
  const [rows] = counts;
  if (counts.size !== 1 || !Number.isInteger(rows)) throw new RangeError("The inputs must have the same whole number of rows.");
  const outputs = {};
  let milliseconds = 0;
  for (let row = 0; row < rows; row++) {
    const started = performance.now();
    for (const [key, values] of Object.entries(await runRow(model, details, inputs, row))) (outputs[key] ??= []).push(...values);
    milliseconds += performance.now() - started;
  }
  return { outputs, microseconds: rows ? (1000 * milliseconds) / rows : 0 };
}

async function runRow(model, details, inputs, row) {
  const tensors = {};
  for (const { name, dtype, shape } of details) {
    const count = size(shape);
    const values = inputs[name].slice(row * count, (row + 1) * count);
    tensors[name] = new Tensor(dtype === "int32" ? Int32Array.from(values) : Float32Array.from(values), shape);
  }
  const results = await model.run(tensors);
  // WebAssembly memory is not garbage-collected, so each tensor is deleted explicitly.
  Object.values(tensors).forEach((tensor) => tensor.delete());
  const outputs = {};
  for (const [name, tensor] of Object.entries(results)) {
    outputs[name] = Array.from(tensor.toTypedArray());
    tensor.delete();
  }
  return outputs;
}
