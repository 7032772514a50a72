// Subject 2: a kernel that slides; the products and their sum at the place that is pointed at.

import { convolve, outputSize, products, sizeArithmetic, sum, windowAt } from "./arithmetic.js";
import { at, element, follow, format, numberInput, paintMap, showNumber } from "./figures.js";

const A_STEP = 60; // milliseconds, while it slides
const OWN = "own";

// By name, the weight at each row and column of a kernel of this size.
const PRESETS = {
  "vertical edges": (row, column, size) => Math.sign((size - 1) / 2 - column),
  "horizontal edges": (row, column, size) => Math.sign((size - 1) / 2 - row),
  outline: (row, column, size) => (isMiddle(row, column, size) ? size * size - 1 : -1),
  blur: (row, column, size) => 1 / (size * size),
  sharpen: (row, column, size) => (isMiddle(row, column, size) ? 2 : 0) - 1 / (size * size),
  "copy (changes nothing)": (row, column, size) => (isMiddle(row, column, size) ? 1 : 0),
};

function isMiddle(row, column, size) {
  const middle = Math.floor((size - 1) / 2);
  return row === middle && column === middle;
}

export function preset(name, size) {
  return Array.from({ length: size * size }, (_, place) => PRESETS[name](Math.floor(place / size), place % size, size));
}

// learnt: [{name, kernels}]; changed(map) is called with each new feature map.
export function openConvolution(learnt, say, changed) {
  let map = { height: 28, width: 28, values: new Array(784).fill(0) };
  let weights = preset("vertical edges", 3);
  let place = null; // row and column of the output; at first the strongest
  let sliding = null;
  let output;

  const chosen = () => ({ size: Math.sqrt(weights.length), stride: Number(at("stride").value), padding: at("padding").value });

  const group = (label, options) => {
    const made = element("optgroup", { label });
    made.append(...options);
    return made;
  };
  at("kernel").replaceChildren(
    group("made by hand", Object.keys(PRESETS).map((name) => element("option", {}, name))),
    ...learnt.map(({ name, kernels }, run) => group(`learnt by ${name}`, kernels.map((_, index) =>
      element("option", { value: `${run}/${index}` }, `learnt kernel ${index + 1}`)))),
    element("option", { value: OWN }, "your own numbers"),
  );
  at("kernel").addEventListener("change", () => {
    const name = at("kernel").value;
    if (name in PRESETS) take(preset(name, Number(at("size").value)));
    else if (name !== OWN) {
      const [run, index] = name.split("/");
      take(learnt[run].kernels[index]);
    }
  });
  at("size").addEventListener("change", () => {
    const size = Number(at("size").value);
    if (!(at("kernel").value in PRESETS)) at("kernel").value = "vertical edges"; // learnt ones have a size of their own
    take(preset(at("kernel").value, size));
  });
  for (const id of ["stride", "padding"]) at(id).addEventListener("change", compute);
  at("play").addEventListener("click", () => (sliding ? stop() : play()));
  const move = (down, across) => moveTo(place[0] + down, place[1] + across, true);
  follow(at("convolution-output"), () => output, move, (row, column) => moveTo(row, column));
  follow(at("convolution-input"), () => padded(), move, (row, column) => {
    const { size, stride } = chosen();
    const nearest = (value) => Math.round((value - (size - 1) / 2) / stride);
    moveTo(nearest(row), nearest(column));
  });

  function take(kernel) {
    weights = [...kernel];
    const size = Math.sqrt(weights.length);
    if (![...at("size").options].some((option) => Number(option.value) === size)) at("size").append(element("option", {}, `${size}`));
    at("size").value = size;
    buildProducts(size);
    compute();
  }

  function compute() {
    const { size, stride, padding } = chosen();
    output = convolve(map, weights, stride, padding);
    at("size-arithmetic").textContent = sizeArithmetic(map.height, size, stride, padding);
    at("convolution-caption").textContent = `The output: a feature map of ${output.height}×${output.width}`;
    place = clamp(place ?? strongest());
    showPlace();
    changed(output);
  }

  function buildProducts(size) {
    at("products").dataset.size = size;
    at("products").style.gridTemplateColumns = `repeat(${size}, minmax(0, 1fr))`;
    at("products").replaceChildren(...weights.map((weight, index) => {
      const label = `Weight in row ${Math.floor(index / size) + 1}, column ${(index % size) + 1}`;
      const input = numberInput(label, 0.1, () => weights[index], (value) => {
        weights[index] = value;
        at("kernel").value = OWN;
        compute();
      });
      showNumber(input, weight);
      return element("div", {}, element("span", { class: "pixel" }),
        element("span", { class: "times" }, "×", input), element("span", { class: "product" }));
    }));
  }

  function showPlace() {
    const { size, stride, padding } = chosen();
    const window = windowAt(map, size, stride, padding, ...place);
    const parts = products(window, weights);
    [...at("products").children].forEach((cell, index) => {
      cell.className = parts[index] > 0 ? "above" : parts[index] < 0 ? "below" : "";
      cell.querySelector(".pixel").textContent = format(window[index]);
      cell.querySelector(".product").textContent = `= ${format(parts[index])}`;
    });
    const [row, column] = place;
    at("total").textContent = `Sum of the ${parts.length} products: ${format(sum(parts))}. It is row ${row + 1}, column ${column + 1} of the output.`;
    const whole = padded();
    paintMap(at("convolution-input"), whole, {
      frame: [row * stride, column * stride, size, size], ink: true, peak: 1,
      border: whole.height > map.height ? [whole.before, whole.left, map.height, map.width] : null,
    });
    at("convolution-input").setAttribute("aria-label", `The picture. The kernel is over rows ${row * stride + 1 - whole.before} to ${row * stride + size - whole.before}, columns ${column * stride + 1 - whole.left} to ${column * stride + size - whole.left}.`);
    const reached = row * output.width + column;
    const shown = sliding ? { ...output, values: output.values.map((value, index) => (index > reached ? 0 : value)) } : output;
    paintMap(at("convolution-output"), shown, { frame: [row, column, 1, 1], peak: Math.max(...output.values.map(Math.abs), 1e-9) });
    at("convolution-output").setAttribute("aria-label", `The feature map, ${output.height} by ${output.width}. Row ${row + 1}, column ${column + 1}: ${format(sum(parts))}.`);
  }

  // The picture with the zeros that padding puts around it.
  function padded() {
    const { size, stride, padding } = chosen();
    const down = outputSize(map.height, size, stride, padding);
    const across = outputSize(map.width, size, stride, padding);
    const height = map.height + down.before + down.after;
    const width = map.width + across.before + across.after;
    const values = new Array(height * width).fill(0);
    map.values.forEach((value, index) => {
      const row = Math.floor(index / map.width) + down.before;
      values[row * width + (index % map.width) + across.before] = value;
    });
    return { height, width, values, before: down.before, left: across.before };
  }

  function strongest() {
    const sizes = output.values.map(Math.abs);
    const index = sizes.indexOf(Math.max(...sizes));
    return [Math.floor(index / output.width), index % output.width];
  }

  function clamp([row, column]) {
    const within = (value, size) => Math.min(size - 1, Math.max(0, value));
    return [within(row, output.height), within(column, output.width)];
  }

  function moveTo(row, column, speak = false) {
    if (sliding) stop();
    place = clamp([row, column]);
    showPlace();
    if (speak) say(`Row ${place[0] + 1}, column ${place[1] + 1}. ${at("total").textContent}`);
  }

  function play() {
    place = [0, 0];
    at("play").setAttribute("aria-pressed", "true");
    at("play").textContent = "Stop";
    sliding = setInterval(() => {
      const next = place[0] * output.width + place[1] + 1;
      if (next >= output.values.length) return stop();
      place = [Math.floor(next / output.width), next % output.width];
      showPlace();
    }, A_STEP);
    showPlace();
  }

  function stop() {
    clearInterval(sliding);
    sliding = null;
    at("play").setAttribute("aria-pressed", "false");
    at("play").textContent = "Slide";
    showPlace();
  }

  buildProducts(Math.sqrt(weights.length));
  return {
    show(shown) {
      map = shown.map;
      compute();
    },
  };
}
