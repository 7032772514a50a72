// What is drawn of the answers: verdicts, bars, feature maps, what was looked at, accounts.

import { paint } from "./picture.js";

const MOST_BARS = 12;
const TILE = 40; // canvas pixels a map, about
const ZOOM = 24; // canvas pixels a shift
const MNIST = "MNIST, by Yann LeCun and Corinna Cortes, CC BY-SA 3.0";

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export function percent(probability) {
  const share = 100 * probability;
  if (share > 99.5 && share < 99.95) return `${share.toFixed(1)} %`;
  if (share >= 99.95 && share < 100) return ">99.9 %";
  return share > 0 && share < 0.5 ? "<1 %" : `${Math.round(share)} %`;
}

export function best(probabilities) {
  return probabilities.reduce((top, value, index) => (value > probabilities[top] ? index : top), 0);
}

export function showVerdict(letter, model, probabilities) {
  const label = document.getElementById(`label-${letter}`);
  const sure = document.getElementById(`sure-${letter}`);
  const top = best(probabilities);
  const name = model.class_names[top];
  const unsure = probabilities[top] < model.threshold;
  label.textContent = name;
  label.classList.toggle("long", name.length > 3);
  label.parentElement.classList.toggle("unsure", unsure);
  sure.textContent = unsure
    ? `not sure: ${percent(probabilities[top])}, under its ${percent(model.threshold)}`
    : `${percent(probabilities[top])} sure`;
}

export function clearVerdict(letter) {
  document.getElementById(`label-${letter}`).textContent = "–";
  document.getElementById(`sure-${letter}`).textContent = "";
}

export class Bars {
  #list;
  #rows = [];

  constructor(list) {
    this.#list = list;
  }

  show(answers) {
    const names = answers[0].model.class_names;
    const order = this.#order(names, answers);
    if (this.#rows.length !== order.length || this.#rows[0].cells.length !== answers.length) {
      this.#rows = order.map(() => makeRow(answers.length));
      this.#list.replaceChildren(...this.#rows.map((row) => row.item));
    }
    const tops = answers.map(({ probabilities }) => best(probabilities));
    order.forEach((label, place) => {
      const { name, cells } = this.#rows[place];
      name.textContent = names[label];
      cells.forEach(({ fill, number, who }, index) => {
        const probability = answers[index].probabilities[label];
        fill.style.width = `${100 * probability}%`;
        who.textContent = ` ${answers[index].model.name}: `;
        number.lastChild.data = percent(probability);
        number.classList.toggle("best", label === tops[index]);
      });
    });
  }

  clear() {
    this.#rows = [];
    this.#list.replaceChildren();
  }

  // A few classes keep their places; of many the most probable are shown.
  #order(names, answers) {
    const all = names.map((_, index) => index);
    if (names.length <= MOST_BARS) return all;
    const most = (label) => Math.max(...answers.map(({ probabilities }) => probabilities[label]));
    return all.sort((one, other) => most(other) - most(one)).slice(0, MOST_BARS);
  }
}

function makeRow(count) {
  const name = element("span", { class: "name" });
  const cells = ["a", "b"].slice(0, count).map((letter) => {
    const fill = element("span", { class: "fill" });
    const who = element("span", { class: "unseen" });
    const track = element("span", { class: `track ${letter}`, "aria-hidden": "true" }, fill);
    return { fill, who, track, number: element("span", { class: `percent ${letter}` }, who, "") };
  });
  const [first, second] = cells;
  const parts = second
    ? [first.number, first.track, name, second.track, second.number]
    : [name, first.track, first.number];
  return { item: element("li", {}, ...parts), name, cells };
}

// Pairs of columns, a and b, that keep their elements as long as the models stay.
export class Pair {
  #box;
  #columns = [];
  #names = "";

  constructor(box) {
    this.#box = box;
  }

  columns(models, fill) {
    const names = models.map((model) => model.name).join("\n");
    if (names !== this.#names) {
      this.#names = names;
      this.#columns = models.map((model, index) => {
        const column = element("div", { class: "ab"[index] }, element("h3", {}, model.name));
        return { column, parts: fill(model, column, index) };
      });
      this.#box.classList.toggle("one", models.length === 1);
      this.#box.replaceChildren(...this.#columns.map(({ column }) => column));
    }
    return this.#columns.map(({ parts }) => parts);
  }
}

export function stageFigures(model, column) {
  return model.stages.map((stage) => {
    const shown = stage.channels < stage.of ? `the first ${stage.channels} of ${stage.of} maps` : `${stage.of} maps`;
    const size = stage.strip ? `${stage.columns} units` : `${shown} of ${stage.height}×${stage.width}`;
    const text = `${stage.name}: ${size}`;
    const canvas = element("canvas", { role: "img", "aria-label": text, class: stage.strip ? "strip" : "maps" });
    column.append(element("figure", {}, canvas, element("figcaption", {}, text)));
    return { canvas, text };
  });
}

export function paintStages(figures, model, maps, colours) {
  model.stages.forEach((stage, index) => {
    const { canvas, text } = figures[index];
    const { values, peak } = maps[index];
    paintMaps(canvas, values, stage, colours);
    canvas.setAttribute("aria-label", `${text}; strongest answer ${peak.toPrecision(2)}`);
  });
}

function paintMaps(canvas, values, { channels, rows, columns }, { ground, above, below, gap }) {
  const across = Math.min(channels, 8);
  const down = Math.ceil(channels / across);
  const zoom = Math.max(1, Math.round(TILE / Math.max(rows, columns)));
  const space = channels > 1 ? 3 : 0;
  const [wide, high] = [columns * zoom + space, rows * zoom + space];
  canvas.width = across * wide - space;
  canvas.height = down * high - space;
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const dots = new Uint32Array(image.data.buffer);
  dots.fill(packed(gap));
  const scale = Array.from({ length: 256 }, (_, index) => {
    const value = (index - 128) / 127;
    const towards = value < 0 ? below : above;
    return packed(ground.map((part, place) => part + (towards[place] - part) * Math.min(1, Math.abs(value))));
  });
  for (let channel = 0; channel < channels; channel++) {
    const start = Math.floor(channel / across) * high * canvas.width + (channel % across) * wide;
    for (let row = 0; row < rows * zoom; row++) {
      const from = (channel * rows + Math.floor(row / zoom)) * columns;
      for (let column = 0; column < columns * zoom; column++) {
        dots[start + row * canvas.width + column] = scale[values[from + Math.floor(column / zoom)] + 128];
      }
    }
  }
  context.putImageData(image, 0, 0);
}

// As a little-endian machine reads red, green, blue and full opacity; all that run browsers are.
function packed([red, green, blue]) {
  return ((255 << 24) | (Math.round(blue) << 16) | (Math.round(green) << 8) | Math.round(red)) >>> 0;
}

export function paintOcclusion({ canvas, caption }, { model, pixels, probabilities }, { side, places }, drops, colour) {
  const [height, width, channels] = model.input_shape;
  const label = model.class_names[best(probabilities)];
  const heat = new Float32Array(height * width);
  const covers = new Float32Array(height * width);
  places.forEach(([top, left], index) => {
    for (let row = Math.max(0, top); row < Math.min(height, top + side); row++) {
      for (let column = Math.max(0, left); column < Math.min(width, left + side); column++) {
        heat[row * width + column] += Math.max(0, drops[index]);
        covers[row * width + column]++;
      }
    }
  });
  const means = heat.map((sum, place) => (covers[place] ? sum / covers[place] : 0));
  const most = Math.max(0.1, means.reduce((a, b) => Math.max(a, b)));
  const shown = new Uint8Array(height * width * 3);
  for (let place = 0; place < height * width; place++) {
    const share = means[place] / most;
    for (let part = 0; part < 3; part++) {
      const own = channels === 3 ? pixels[3 * place + part] : pixels[place];
      shown[3 * place + part] = 0.45 * own * (1 - share) + (0.35 * own + 0.65 * colour[part]) * share;
    }
  }
  paint(canvas, shown, [height, width, 3]);
  const worst = best(drops);
  const before = probabilities[best(probabilities)];
  const where = region(places[worst], side, height, width);
  const text = drops[worst] > 0.005
    ? `Hiding the ${where} takes ${label} from ${percent(before)} to ${percent(Math.max(0, before - drops[worst]))}.`
    : `Hiding any one place leaves ${label} at ${percent(before)}.`;
  caption.textContent = text;
  canvas.setAttribute("aria-label", `What ${model.name} looked at. ${text}`);
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

export function showAccount(model, column) {
  const { account, input_shape: [height, width, channels] } = model;
  const facts = [
    ["Network", account.rung],
    ["Data", account.embedded === "mnist" ? MNIST : account.dataset],
    ["Trained on", account.training_images && `${account.training_images.toLocaleString("en")} images, in ${account.fit_seconds.toFixed(1)} s`],
    ["Parameters", account.parameters?.toLocaleString("en")],
    ["Takes", `${height}×${width}, ${channels === 1 ? "gray" : "colours"}; other proportions: ${model.fit}`],
    ["Data’s fingerprint", account.fingerprint?.slice(0, 12)],
  ];
  if (account.test_accuracy !== null) {
    const percent = (share) => (100 * share).toFixed(account.test_images < 100 ? 0 : 2);  // 1 of 20 is 5 points
    column.append(element("p", { class: "score" }, `${percent(account.test_accuracy)} %`));
    const interval = account.interval
      ? `of ${account.test_images.toLocaleString("en")} test images${account.tested_by ? `, by ${account.tested_by}` : ""}; ${account.interval.map(percent).join(" to ")} % (95 % interval)`
      : "of its test images";
    column.append(element("p", { class: "note" }, interval));
  }
  const list = element("dl");
  for (const [name, value] of facts) if (value) list.append(element("dt", {}, name), element("dd", {}, value));
  if (account.confusions?.length) {
    const lines = account.confusions.map(({ truth, answer, count }) =>
      element("li", {}, `${model.class_names[truth]} taken for ${model.class_names[answer]}: ${count}×`));
    list.append(element("dt", {}, "Most frequent confusions"), element("dd", {}, element("ul", {}, ...lines)));
  }
  column.append(list);
}
