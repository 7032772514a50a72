// Small networks of the lesson's own, trained by benchmarks/lesson.py, and computed here.
//
// Maps of many channels are {height, width, channels, values}, the channels of a place side by side, as in Keras.

import { outputSize, softmax } from "./arithmetic.js";

// pixels: 28×28 numbers from 0 to 255. off: the number of the block that is left out, from 0; null for none.
// Returns {probabilities, logits}.
export function answer(network, pixels, off = null) {
  const left = off === null ? null : network.layers.filter(({ kind }) => kind === "block")[off];
  const logits = Array.from(run(network.layers.filter((layer) => layer !== left), scaled(pixels)).values);
  return { logits, probabilities: softmax(logits) };
}

// What each place of the last maps adds to the logit of a class, where the last layer reads the means of the maps:
// a mean is a sum over places, so that the logit is the sum of these values and the bias.
export function evidence(network, pixels, label) {
  const { shape: [channels, classes], weights, bias } = network.layers.at(-1);
  const { height, width, values } = run(network.layers.slice(0, -2), scaled(pixels));
  const places = height * width;
  const shares = new Array(places).fill(0);
  values.forEach((value, index) => {
    shares[Math.floor(index / channels)] += (value * weights[(index % channels) * classes + label]) / places;
  });
  return { map: { height, width, values: shares }, bias: bias[label] };
}

function scaled(pixels) {
  return { height: 28, width: 28, channels: 1, values: Float32Array.from(pixels, (value) => value / 255) };
}

function run(layers, map) {
  return layers.reduce((reached, layer) => LAYERS[layer.kind](reached, layer), map);
}

// Weights come as base64 of 8-bit numbers, with the scale that they are parts of.
export function readNetwork(network) {
  return { ...network, layers: network.layers.map(readLayer) };
}

function readLayer(layer) {
  if (layer.kind === "block") return readNetwork(layer);
  return layer.weights ? { ...layer, weights: readWeights(layer) } : layer;
}

function readWeights({ weights, scale }) {
  return Float32Array.from(atob(weights), (letter) => ((letter.charCodeAt(0) << 24) >> 24) * scale);
}

const LAYERS = {
  convolution, dense, pooling, flatten, mean, block,
  relu: (map) => ({ ...map, values: map.values.map(cut) }),
};

function convolution(map, { shape: [size, , channels, filters], weights, bias, relu }) {
  const { height, width } = map;
  const { before } = outputSize(height, size, 1, "same");
  const values = new Float32Array(height * width * filters);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const to = (row * width + column) * filters;
      values.set(bias, to);
      for (let y = 0; y < size; y++) {
        for (let x = 0; x < size; x++) {
          const [down, across] = [row + y - before, column + x - before];
          if (down < 0 || down >= height || across < 0 || across >= width) continue;
          for (let channel = 0; channel < channels; channel++) {
            const value = map.values[(down * width + across) * channels + channel];
            const from = ((y * size + x) * channels + channel) * filters;
            if (value) for (let filter = 0; filter < filters; filter++) values[to + filter] += value * weights[from + filter];
          }
        }
      }
    }
  }
  return { height, width, channels: filters, values: relu ? values.map(cut) : values };
}

function dense(map, { shape: [inputs, units], weights, bias, relu }) {
  const values = Float32Array.from(bias);
  for (let input = 0; input < inputs; input++) {
    const value = map.values[input];
    if (value) for (let unit = 0; unit < units; unit++) values[unit] += value * weights[input * units + unit];
  }
  return { height: 1, width: 1, channels: units, values: relu ? values.map(cut) : values };
}

function pooling({ height, width, channels, values }, { size }) {
  const pooled = { height: Math.floor(height / size), width: Math.floor(width / size), channels };
  pooled.values = new Float32Array(pooled.height * pooled.width * channels).fill(-Infinity);
  for (let row = 0; row < pooled.height * size; row++) {
    for (let column = 0; column < pooled.width * size; column++) {
      const to = (Math.floor(row / size) * pooled.width + Math.floor(column / size)) * channels;
      const from = (row * width + column) * channels;
      for (let channel = 0; channel < channels; channel++) {
        pooled.values[to + channel] = Math.max(pooled.values[to + channel], values[from + channel]);
      }
    }
  }
  return pooled;
}

function flatten({ values }) {
  return { height: 1, width: 1, channels: values.length, values };
}

function mean({ height, width, channels, values }) {
  const means = new Float32Array(channels);
  values.forEach((value, index) => (means[index % channels] += value / (height * width)));
  return { height: 1, width: 1, channels, values: means };
}

// Two convolutions; with a shortcut, the input is added to what they give. Then ReLU.
function block(map, { layers, shortcut }) {
  const { values, ...shape } = run(layers, map);
  return { ...shape, values: values.map((value, index) => cut(shortcut ? value + map.values[index] : value)) };
}

function cut(value) {
  return Math.max(0, value);
}

// The kernels of the first convolution over one channel: lists of numbers, row by row.
export function firstKernels(network) {
  const first = network.layers.find((layer) => layer.kind === "convolution");
  if (!first || first.shape[2] !== 1) return [];
  const [size, , , filters] = first.shape;
  return Array.from({ length: filters }, (_, filter) =>
    Array.from({ length: size * size }, (_, place) => first.weights[place * filters + filter]));
}
