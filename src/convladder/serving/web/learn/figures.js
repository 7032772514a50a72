// What the subjects draw with: maps that can be pointed at, curves, histograms; and numbers as text.

import { drawn, element } from "../film/player.js";

const SIDE = 336; // canvas pixels of a map, about
const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

export const at = (id) => document.getElementById(id);

export { element };

// At most so many decimals, and a minus sign rather than a hyphen.
export function format(value, decimals = 2) {
  const rounded = Number(value.toFixed(decimals));
  return (rounded === 0 ? 0 : rounded).toLocaleString("en", { maximumFractionDigits: decimals }).replace("-", "−");
}

export function percent(share, decimals = 0) {
  return `${(100 * share).toFixed(decimals)} %`;
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim().slice(1).match(/../g).map((part) => parseInt(part, 16));
  return { ground: read("--paper"), above: read("--first"), below: read("--second"), ink: read("--ink") };
}

// A map in colours: the stronger, the further from zero. A map of pixels has `ink` for its colour.
// frame: [row, column, height, width], in places of the map; it may reach over the border.
// border: likewise, a thin line, as around a picture with zeros outside.
export function paintMap(canvas, map, { frame = null, border = null, ink = false, peak = 0 } = {}) {
  const palette = colours();
  const zoom = Math.max(1, Math.round(SIDE / Math.max(map.width, map.height, 1)));
  canvas.width = Math.max(1, map.width) * zoom;
  canvas.height = Math.max(1, map.height) * zoom;
  const context = canvas.getContext("2d");
  const most = peak || Math.max(...map.values.map(Math.abs), 1e-9);
  map.values.forEach((value, index) => {
    const towards = ink ? palette.ink : value < 0 ? palette.below : palette.above;
    const share = Math.min(1, Math.abs(value) / most);
    const mixed = palette.ground.map((part, place) => Math.round(part + (towards[place] - part) * share));
    context.fillStyle = `rgb(${mixed})`;
    context.fillRect((index % map.width) * zoom, Math.floor(index / map.width) * zoom, zoom, zoom);
  });
  if (border) {
    const [row, column, height, width] = border.map((part) => part * zoom);
    context.lineWidth = 1;
    context.strokeStyle = `rgb(${palette.ink})`;
    context.strokeRect(column - 0.5, row - 0.5, width + 1, height + 1);
  }
  if (!frame) return;
  const [row, column, height, width] = frame.map((part) => part * zoom);
  context.lineWidth = 6;
  context.strokeStyle = `rgb(${palette.ground})`;
  context.strokeRect(column, row, width, height);
  context.lineWidth = 3;
  context.strokeStyle = `rgb(${ink ? palette.below : palette.ink})`;
  context.strokeRect(column, row, width, height);
}

// Calls moved(down, across) for the arrow keys, jumped(row, column) for the pointer, in places of a map of this size.
export function follow(canvas, size, moved, jumped) {
  canvas.addEventListener("keydown", (event) => {
    const arrow = ARROWS[event.key];
    if (!arrow || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    moved(...arrow);
  });
  const point = (event) => {
    const box = canvas.getBoundingClientRect();
    const { height, width } = size();
    const row = Math.floor(((event.clientY - box.top) / box.height) * height);
    const column = Math.floor(((event.clientX - box.left) / box.width) * width);
    jumped(row, column);
  };
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
}

const BOX = { width: 640, height: 300, left: 84, right: 14, top: 20, bottom: 60 };

// Curves over steps: [{values, dashed, letter}], where letter "a" or "b" is the colour. Labels say what the axes are.
export function curves(lines, { steps, low, high, label, across, named }) {
  const count = steps.length;
  const x = (index) => BOX.left + (index / Math.max(1, count - 1)) * (BOX.width - BOX.left - BOX.right);
  const y = (value) => BOX.height - BOX.bottom
    - ((Math.min(high, Math.max(low, value)) - low) / (high - low)) * (BOX.height - BOX.top - BOX.bottom);
  const svg = drawn("svg", { viewBox: `0 0 ${BOX.width} ${BOX.height}`, role: "img", "aria-label": named });
  for (let step = 0; step <= 4; step++) {
    const value = low + ((high - low) * step) / 4;
    svg.append(
      drawn("line", { class: "grid", x1: BOX.left, x2: BOX.width - BOX.right, y1: y(value), y2: y(value) }),
      drawn("text", { x: BOX.left - 8, y: y(value) + 5, "text-anchor": "end" }, label(value)),
    );
  }
  const every = Math.ceil(count / 8);
  steps.forEach((step, index) => {
    if (index % every && index !== count - 1) return;
    if (index !== count - 1 && count - 1 - index < every && index) return;
    svg.append(drawn("text", { x: x(index), y: BOX.height - BOX.bottom + 26, "text-anchor": "middle" }, `${step}`));
  });
  svg.append(drawn("text", { x: (BOX.left + BOX.width - BOX.right) / 2, y: BOX.height - 6, "text-anchor": "middle" }, across));
  for (const { values, dashed, letter } of lines) {
    const points = values.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    svg.append(drawn("polyline", { points, class: `curve ${letter}${dashed ? " dashed" : ""}` }));
    if (values.length < 6) {
      values.forEach((value, index) => svg.append(drawn("circle", { cx: x(index), cy: y(value), r: 5, class: `dot ${letter}` })));
    }
  }
  return svg;
}

// How many values fall into each of 24 bins from low to high; what lies outside is in the outermost.
export function histogram(values, low, high) {
  const bins = new Array(24).fill(0);
  for (const value of values) {
    bins[Math.min(23, Math.max(0, Math.floor(((value - low) / (high - low)) * 24)))]++;
  }
  const most = Math.max(...bins);
  const svg = drawn("svg", { viewBox: "0 0 240 120", "aria-hidden": "true", preserveAspectRatio: "none" });
  bins.forEach((count, bin) => {
    const height = 100 * Math.sqrt(count / most); // so that few are seen beside many
    svg.append(drawn("rect", { class: "bin", x: bin * 10 + 1, width: 8, y: 105 - height, height }));
  });
  const zero = ((0 - low) / (high - low)) * 240;
  svg.append(drawn("line", { class: "zero-line", x1: zero, x2: zero, y1: 0, y2: 110 }));
  return svg;
}

// A table of measurements, which scrolls by itself where it is wider than the page.
export function table(caption, head, rows) {
  return element("div", { class: "scrolled", tabindex: "0", role: "region", "aria-label": caption },
    element("table", { class: "measured" }, element("caption", {}, caption),
      element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)))),
      element("tbody", {}, ...rows)));
}

const LIMIT = 100; // of a number that one types

// A number that can be edited. read() gives the one in use, which stays where the typed one is none from −100 to 100.
export function numberInput(label, step, read, changed) {
  const input = element("input", { type: "number", step, min: -LIMIT, max: LIMIT, "aria-label": label });
  const accepted = () => Math.abs(input.valueAsNumber) <= LIMIT; // NaN is not
  input.addEventListener("input", () => accepted() && changed(input.valueAsNumber));
  input.addEventListener("change", () => accepted() || showNumber(input, read()));
  return input;
}

export function showNumber(input, value) {
  input.value = Number(value.toFixed(2));
}
