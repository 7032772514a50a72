// Answer for pixels with ONNX Runtime Web, in Node: node parity.mjs RUNTIME MODEL PIXELS SHAPE ANSWERS
// PIXELS holds a byte a value, SHAPE is "height,width,channels"; float32 probabilities are written to ANSWERS.

import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [runtime, model, pixelsFile, shapeText, answersFile] = process.argv.slice(2);
const at = (name) => pathToFileURL(`${runtime}/${name}`).href;
const ort = await import(at("ort.wasm.min.js"));
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = { mjs: at("ort-wasm-simd-threaded.js") };
ort.env.wasm.wasmBinary = readFileSync(`${runtime}/ort-wasm-simd-threaded.wasm`);

const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(model)));
const shape = shapeText.split(",").map(Number);
const size = shape[0] * shape[1] * shape[2];
const pixels = new Uint8Array(readFileSync(pixelsFile));
const [probabilities] = session.outputNames;
const parts = [];
const step = 20;
for (let first = 0; first < pixels.length / size; first += step) {
  const some = Float32Array.from(pixels.subarray(first * size, (first + step) * size));
  const input = new ort.Tensor("float32", some, [some.length / size, ...shape]);
  const outputs = await session.run({ [session.inputNames[0]]: input }, [probabilities]);
  parts.push(Buffer.from(Float32Array.from(outputs[probabilities].data).buffer));
}
writeFileSync(answersFile, Buffer.concat(parts));
