// ONNX Runtime Web does the arithmetic here: no picture leaves the browser.

import * as ort from "../runtime/ort.wasm.min.js";
import { fitPixels } from "./resizing.js";

const PIXEL_LIMIT = 100_000_000; // as on the server

ort.env.wasm.numThreads = 1; // more would need headers that a plain static host does not send
ort.env.wasm.wasmPaths = {
  mjs: new URL("../runtime/ort-wasm-simd-threaded.js", import.meta.url).href,
  wasm: new URL("../runtime/ort-wasm-simd-threaded.wasm", import.meta.url).href,
};

export class Engine {
  #sessions = new Map();
  #last = Promise.resolve(); // one picture after the other

  async decode(model, file) {
    let bitmap;
    try {
      bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
    } catch {
      throw new Error(`${file.name || "This"} is no picture that this browser can read.`);
    }
    const { width, height } = bitmap;
    if (width * height > PIXEL_LIMIT) throw new Error(`${width}×${height} pixels are too many.`);
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "#fff"; // what is transparent is laid on white
    context.fillRect(0, 0, width, height);
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    return fitPixels(context.getImageData(0, 0, width, height), model.input_shape, model.fit);
  }

  answer(model, pixels, { count = 1, maps = false } = {}) {
    const answered = this.#last.then(() => this.#run(model, pixels, count, maps));
    this.#last = answered.catch(() => {});
    return answered;
  }

  async #run(model, pixels, count, maps) {
    const session = await this.#session(model);
    const input = new ort.Tensor("float32", Float32Array.from(pixels), [count, ...model.input_shape]);
    const [first] = session.outputNames;
    const told = session.outputNames.includes("familiarity");
    const wanted = [first, ...(told ? ["familiarity"] : []), ...(maps ? model.stages.map((stage) => stage.name) : [])];
    const outputs = await session.run({ [session.inputNames[0]]: input }, wanted);
    const probabilities = outputs[first].data;
    const familiarity = told ? outputs.familiarity.data : new Float32Array(count).fill(NaN);
    if (!maps) return { probabilities, familiarity };
    return { probabilities, familiarity, maps: model.stages.map((stage) => thin(outputs[stage.name].data, stage)) };
  }

  #session(model) {
    if (!this.#sessions.has(model.name)) this.#sessions.set(model.name, open(model));
    return this.#sessions.get(model.name);
  }
}

async function open(model) {
  const response = await fetch(new URL(`../${model.file}`, import.meta.url));
  if (!response.ok) throw new Error(`${model.file}: ${response.status} ${response.statusText}`);
  return ort.InferenceSession.create(new Uint8Array(await response.arrayBuffer()));
}

// As thin_maps of serving/catalogue.py: the first channels, every so many-th place, −127 to 127 of the peak.
function thin(data, { rows, columns, channels, of, width, step }) {
  let peak = 0;
  for (let channel = 0; channel < channels; channel++) {
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const value = Math.abs(data[(row * step * width + column * step) * of + channel]);
        if (value > peak) peak = value;
      }
    }
  }
  const values = new Int8Array(channels * rows * columns);
  const scale = peak > 0 ? 127 / peak : 0;
  let place = 0;
  for (let channel = 0; channel < channels; channel++) {
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        values[place++] = Math.round(data[(row * step * width + column * step) * of + channel] * scale);
      }
    }
  }
  return { values, peak };
}

