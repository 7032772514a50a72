// What hiding a place of the picture, and shifting it, does to an answer.

import { paint } from "./picture.js";
import { best, element, percent } from "./views.js";

const CANVAS = 448; // canvas pixels of a picture's longer side, about
const ZOOM = 24; // canvas pixels a shift
const SMALLEST_SCALE = 0.1; // a smaller loss of probability does not get the strongest colour
const NO_LOSS = 0.005;
const HEAT = 0.65; // of the colour; the rest is the picture, in gray so that its own colours mean nothing

// Viridis, by van der Walt and Smith: equal steps look equally large, to the colour-blind too, on light and on dark.
const VIRIDIS = ["440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725"];
const COLOURS = VIRIDIS.map((colour) => colour.match(/../g).map((part) => parseInt(part, 16)));

export function lookedFigures(model, column, shifting) {
  const figure = (name, ...more) => {
    const label = `Important places for ${model.name}: not yet known`;
    const canvas = element("canvas", { role: "img", "aria-label": label, class: name });
    const caption = element("figcaption");
    column.append(element("figure", {}, canvas, ...more, caption));
    return { canvas, caption };
  };
  const ramp = element("i");
  ramp.style.background = `linear-gradient(to right, ${VIRIDIS.map((colour) => `#${colour}`)})`;
  const most = element("span");
  const legend = element("div", { class: "scale", "aria-hidden": "true" }, element("span", {}, "0"), ramp, most);
  return { looked: { ...figure("hiding", legend), most }, shifted: shifting ? figure("shifts") : null };
}

export function paintOcclusion({ canvas, caption, most }, { model, pixels, probabilities }, { side, places }, drops) {
  const [height, width, channels] = model.input_shape;
  const losses = meanLosses(drops, places, side, height, width);
  const greatest = losses.reduce((one, other) => Math.max(one, other));
  const scale = Math.max(SMALLEST_SCALE, greatest);
  const gray = stretchedGray(pixels, channels);
  const shown = new Uint8Array(height * width * 3);
  losses.forEach((loss, place) => {
    const colour = viridis(loss / scale);
    for (let part = 0; part < 3; part++) shown[3 * place + part] = HEAT * colour[part] + (1 - HEAT) * gray[place];
  });
  const small = document.createElement("canvas");
  paint(small, shown, [height, width, 3]);
  const zoom = Math.max(1, Math.round(CANVAS / Math.max(height, width)));
  canvas.width = width * zoom;
  canvas.height = height * zoom;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  if (greatest > NO_LOSS) outline(context, losses.map((loss) => loss >= greatest / 2), width, zoom);
  most.textContent = `−${Math.round(100 * scale)} points`;
  const label = model.class_names[best(probabilities)];
  const worst = best(drops);
  const before = probabilities[best(probabilities)];
  const text = drops[worst] > NO_LOSS
    ? `Hiding the ${region(places[worst], side, height, width)} takes ${label} from ${percent(before)} to ${percent(Math.max(0, before - drops[worst]))}.`
    : `Hiding any one place leaves ${label} at ${percent(before)}.`;
  caption.textContent = text;
  canvas.setAttribute("aria-label", `Important places for ${model.name}. ${text}`);
}

// Of each pixel, the mean loss over the squares that cover it.
function meanLosses(drops, places, side, height, width) {
  const sums = new Float32Array(height * width);
  const covers = new Float32Array(height * width);
  places.forEach(([top, left], index) => {
    for (let row = Math.max(0, top); row < Math.min(height, top + side); row++) {
      for (let column = Math.max(0, left); column < Math.min(width, left + side); column++) {
        sums[row * width + column] += Math.max(0, drops[index]);
        covers[row * width + column]++;
      }
    }
  });
  return Array.from(sums, (sum, place) => (covers[place] ? sum / covers[place] : 0));
}

// From the darkest to the lightest pixel, so that a dark photograph shows as much as a light one.
function stretchedGray(pixels, channels) {
  const gray = new Float32Array(pixels.length / channels);
  gray.forEach((_, place) => {
    const own = pixels.subarray(channels * place, channels * (place + 1));
    gray[place] = channels === 3 ? 0.299 * own[0] + 0.587 * own[1] + 0.114 * own[2] : own[0];
  });
  const low = gray.reduce((one, other) => Math.min(one, other));
  const high = gray.reduce((one, other) => Math.max(one, other));
  return gray.map((value) => (255 * (value - low)) / Math.max(1, high - low));
}

function viridis(share) {
  const place = Math.min(1, share) * (COLOURS.length - 1);
  const below = Math.min(COLOURS.length - 2, Math.floor(place));
  return COLOURS[below].map((part, index) => part + (COLOURS[below + 1][index] - part) * (place - below));
}

// A white line on a black one, which shows on every ground.
function outline(context, inside, width, zoom) {
  context.beginPath();
  inside.forEach((here, place) => {
    const [row, column] = [Math.floor(place / width), place % width];
    if (column && here !== inside[place - 1]) {
      context.moveTo(column * zoom, row * zoom);
      context.lineTo(column * zoom, (row + 1) * zoom);
    }
    if (row && here !== inside[place - width]) {
      context.moveTo(column * zoom, row * zoom);
      context.lineTo((column + 1) * zoom, row * zoom);
    }
  });
  context.lineCap = "square";
  for (const [style, size] of [["#000", 6], ["#fff", 3]]) {
    context.strokeStyle = style;
    context.lineWidth = size;
    context.stroke();
  }
}

// A square a shift, from the middle; coloured, the stronger the surer, where the answer is the one in the middle.
export function paintShifts({ canvas, caption }, model, moves, answered, [here, there], { ground, above, ink }) {
  const classes = model.class_names.length;
  const rows = moves.map((_, index) => answered.subarray(index * classes, (index + 1) * classes));
  const label = best(rows[rows.length >> 1]);
  const side = Math.sqrt(moves.length);
  canvas.width = canvas.height = side * ZOOM;
  const context = canvas.getContext("2d");
  let kept = 0;
  moves.forEach(([across, down], index) => {
    const stays = best(rows[index]) === label;
    kept += stays;
    const share = stays ? 0.3 + 0.7 * rows[index][label] : 0;
    const [left, top] = [(index % side) * ZOOM, Math.floor(index / side) * ZOOM];
    context.fillStyle = `rgb(${ground.map((part, place) => Math.round(part + (above[place] - part) * share))})`;
    context.fillRect(left, top, ZOOM - 1, ZOOM - 1);
    if (across === here && down === there) {
      context.strokeStyle = `rgb(${ink})`;
      context.lineWidth = 2;
      context.strokeRect(left + 1, top + 1, ZOOM - 3, ZOOM - 3);
    }
  });
  const reach = Math.max(...moves.map(([across]) => across));
  const text = `${model.class_names[label]} at ${kept} of ${moves.length} shifts, up to ${reach} pixels each way.`;
  caption.textContent = text;
  canvas.setAttribute("aria-label", `${model.name}: ${text}`);
}

function region([top, left], side, height, width) {
  const third = (value, size) => Math.min(2, Math.max(0, Math.floor((3 * (value + side / 2)) / size)));
  const down = ["top", "middle", "bottom"][third(top, height)];
  const across = ["left", "", "right"][third(left, width)];
  if (down === "middle") return across ? `${across} side` : "middle";
  return across ? `${down} ${across}` : down;
}

