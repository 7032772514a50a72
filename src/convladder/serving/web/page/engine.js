// What answers: this server, or ONNX Runtime in this browser. models.json beside the page says which.
//
// Both engines have two functions:
//   decode(model, file)                    a picture in a file, as the pixels that the model takes: Uint8Array
//   answer(model, pixels, {count, maps})   probabilities and familiarity of `count` pictures, Float32Arrays, NaN where a
//                                          file does not tell it; with `maps` also each stage's feature maps of the first: [{values, peak}], where values is an
//                                          Int8Array of (channels, rows, columns), 127 standing for the peak

export async function openEngine() {
  const response = await fetch(new URL("../models.json", import.meta.url));
  if (!response.ok) throw new Error(`models.json: ${response.status} ${response.statusText}`);
  const catalogue = await response.json();
  const { Engine } = await import(catalogue.engine === "browser" ? "./browser-engine.js" : "./server-engine.js");
  return { catalogue, engine: new Engine() };
}

export function pixelCount(model) {
  const [height, width, channels] = model.input_shape;
  return height * width * channels;
}
