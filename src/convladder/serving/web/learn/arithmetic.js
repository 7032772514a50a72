// The arithmetic of the lesson: pure functions, each checked against NumPy and Keras in tests/test_serving_learn.py.
//
// A map is {height, width, values}: values is a list of numbers, row by row. Padding is "valid" or "same", as in Keras.

// How many zeros stand before and after a side, and how many places the kernel has on it.
export function outputSize(input, kernel, stride, padding) {
  const output = padding === "same" ? Math.ceil(input / stride) : Math.floor((input - kernel) / stride) + 1;
  const zeros = padding === "same" ? Math.max((output - 1) * stride + kernel - input, 0) : 0;
  const before = Math.floor(zeros / 2);
  return { output: Math.max(output, 0), before, after: zeros - before };
}

// The same as text: (input + zeros − kernel) / stride + 1, in ⌊ ⌋ where it is rounded down.
export function sizeArithmetic(input, kernel, stride, padding) {
  const { output, before, after } = outputSize(input, kernel, stride, padding);
  const zeros = before === after ? `2·${before}` : `${before} + ${after}`;
  const quotient = `(${input} + ${zeros} − ${kernel}) / ${stride}`;
  const whole = (input + before + after - kernel) % stride === 0;
  return `${whole ? quotient : `⌊${quotient}⌋`} + 1 = ${output}`;
}

// What a window covers: the input's values at one place of the output, row by row; 0 outside of the input.
export function windowAt(map, size, stride, padding, row, column) {
  const down = outputSize(map.height, size, stride, padding).before;
  const across = outputSize(map.width, size, stride, padding).before;
  const values = [];
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const [from, to] = [row * stride + y - down, column * stride + x - across];
      const inside = from >= 0 && from < map.height && to >= 0 && to < map.width;
      values.push(inside ? map.values[from * map.width + to] : 0);
    }
  }
  return values;
}

export function products(window, kernel) {
  return window.map((value, index) => value * kernel[index]);
}

export function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}

// A convolution as networks compute it, without turning the kernel round: size² weights, row by row.
export function convolve(map, kernel, stride = 1, padding = "valid") {
  const size = Math.sqrt(kernel.length);
  return slide(map, size, stride, padding, (window) => sum(products(window, kernel)));
}

const POOLINGS = {
  max: (window) => Math.max(...window),
  average: (window) => sum(window) / window.length,
  min: (window) => Math.min(...window),
};

// Windows of size×size; by default they do not overlap, and rows and columns that fill none are left out. Padding "same"
// puts zeros around the map: right for max where no value is below zero.
export function pool(map, size, kind = "max", stride = size, padding = "valid") {
  return slide(map, size, stride, padding, POOLINGS[kind]);
}

function slide(map, size, stride, padding, work) {
  const height = outputSize(map.height, size, stride, padding).output;
  const width = outputSize(map.width, size, stride, padding).output;
  const values = [];
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      values.push(work(windowAt(map, size, stride, padding, row, column)));
    }
  }
  return { height, width, values };
}

export function relu(value) {
  return Math.max(0, value);
}

// e to the power of each logit, divided by the sum of all. The largest is taken off first, so that none is infinite.
export function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - largest));
  const total = sum(powers);
  return powers.map((power) => power / total);
}

// Minus the logarithm of the right class's probability, which is at least 1e-7 as in Keras.
export function crossEntropy(probabilities, label) {
  return -Math.log(Math.max(probabilities[label], 1e-7));
}

// Batch normalization: mean 0 and variance 1, then the learnt scale and offset. 0.001 is Keras's epsilon.
export function normalize(values, scale = 1, offset = 0, epsilon = 0.001) {
  const { mean, variance } = spread(values);
  return values.map((value) => ((value - mean) / Math.sqrt(variance + epsilon)) * scale + offset);
}

export function spread(values) {
  const mean = sum(values) / values.length;
  return { mean, variance: sum(values.map((value) => (value - mean) ** 2)) / values.length };
}

export function denseParameters(side, channels, units) {
  return side * side * channels * units + units;
}

export function convolutionParameters(kernel, channels, filters) {
  return kernel * kernel * channels * filters + filters;
}
