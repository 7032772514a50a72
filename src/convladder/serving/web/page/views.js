// What is drawn of the answers: verdicts, bars, feature maps, accounts.

import { colours as inColours, otherProportions } from "./words.js";

const MOST_BARS = 12;
const TILE = 40; // canvas pixels a map, about
const UNIT = 12; // canvas pixels a unit of a fully connected layer
const MOST_ROWS = 4; // of maps a stage
const MOST_UNITS = 32; // of a fully connected layer beside one another
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

export const UNLIKE = "unlike its training pictures";

export function isUnlike({ model, familiarity }) {
  return familiarity[0] < model.unlike_below; // not where it is NaN
}

// answered: what the engine answered, with the model, and truth, the right answer's name, if it is known
export function showVerdict(letter, answered) {
  const { model, probabilities, truth } = answered;
  const label = document.getElementById(`label-${letter}`);
  const top = best(probabilities);
  const name = model.class_names[top];
  const unsure = probabilities[top] < model.threshold;
  label.textContent = name;
  const unlike = isUnlike(answered);
  label.parentElement.classList.toggle("unsure", unsure || unlike);
  const sure = unsure
    ? `not sure: ${percent(probabilities[top])}, under its ${percent(model.threshold)}`
    : `${percent(probabilities[top])} sure`;
  document.getElementById(`sure-${letter}`).textContent = unlike ? `${sure}, but ${UNLIKE}` : sure;
  const judged = document.getElementById(`judged-${letter}`);
  judged.classList.toggle("right", name === truth);
  judged.textContent = truth === undefined ? "" : judge(model, name, truth);
}

export function judge(model, name, truth) {
  if (name === truth) return "right";
  return model.class_names.includes(truth) ? "wrong" : `it does not know ${truth}`;
}

export function clearVerdict(letter) {
  document.getElementById(`label-${letter}`).textContent = "–";
  for (const part of ["sure", "judged"]) document.getElementById(`${part}-${letter}`).textContent = "";
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

export function stageFigures(model, column, zoom) {
  if (!model.stages.length) column.append(element("p", { class: "note" }, "This network has no feature maps to show."));
  return model.stages.map((stage) => {
    const canvas = element("canvas", { class: stage.strip ? "strip" : "maps" });
    const button = stage.strip ? null : element("button", { type: "button", class: "enlarge" }, canvas);
    const caption = element("figcaption");
    column.append(element("figure", {}, button ?? canvas, caption));
    const figure = { canvas, caption, named: button ?? canvas, across: 1, count: 1, show: null };
    canvas.setAttribute(...(button ? ["aria-hidden", "true"] : ["role", "img"]));
    button?.addEventListener("click", (event) => {
      if (figure.show) zoom.open(tileAt(event, figure), stage.channels, figure.show);
    });
    return figure;
  });
}

// The tile that was clicked; by keyboard the first.
function tileAt({ detail, offsetX, offsetY }, { canvas, across, count }) {
  if (!detail) return 0;
  const column = Math.floor((across * offsetX) / canvas.clientWidth);
  const row = Math.floor((Math.ceil(count / across) * offsetY) / canvas.clientHeight);
  return Math.max(0, Math.min(count - 1, row * across + Math.min(across - 1, column)));
}

// `most` maps stand beside one another, in at most four rows: more would be too small, or too long a page.
export function paintStages(figures, model, maps, colours, most) {
  model.stages.forEach((stage, index) => {
    const figure = figures[index];
    const { values, peak } = maps[index];
    figure.across = Math.min(stage.strip ? stage.columns : stage.channels, stage.strip ? MOST_UNITS : most);
    figure.count = stage.strip ? stage.columns : Math.min(stage.channels, MOST_ROWS * most);
    const shape = stage.strip ? [1, 1] : [stage.rows, stage.columns];
    paintMaps(figure.canvas, values, shape, figure, colours);
    if (stage.strip) figure.canvas.style.width = `${(100 * figure.across) / MOST_UNITS}%`;
    const size = `${stage.height}×${stage.width}`;
    const shown = figure.count < stage.of ? `the first ${figure.count} of ${stage.of} maps` : `${stage.of} maps`;
    const text = stage.strip ? `${stage.name}: ${stage.columns} units` : `${stage.name}: ${shown} of ${size}`;
    figure.caption.textContent = text;
    figure.named.setAttribute("aria-label", `${text}; strongest answer ${peak.toPrecision(2)}${stage.strip ? "" : ". Enlarge"}`);
    figure.show = (place, canvas) => {
      const own = values.subarray(place * stage.rows * stage.columns, (place + 1) * stage.rows * stage.columns);
      paintMaps(canvas, own, shape, { across: 1, count: 1 }, colours);
      const [low, high] = [Math.min(...own), Math.max(...own)].map((value) => ((value * peak) / 127).toPrecision(2));
      const thinned = stage.step > 1 ? `, one row and column in ${stage.step} shown` : "";
      return { title: `${model.name}, ${stage.name}: map ${place + 1} of ${stage.of}`, note: `From ${low} to ${high}. ${size} places${thinned}.` };
    };
  });
}

function paintMaps(canvas, values, [rows, columns], { across, count }, { ground, above, below, gap }) {
  const down = Math.ceil(count / across);
  const zoom = rows * columns > 1 ? Math.max(1, Math.round(TILE / Math.max(rows, columns))) : UNIT;
  const space = count > 1 ? 3 : 0;
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
  for (let channel = 0; channel < count; channel++) {
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

export function showAccount(model, column) {
  const { account, input_shape: [height, width, channels] } = model;
  const facts = [
    ["Network", account.rung],
    ["Data", account.embedded === "mnist" ? MNIST : account.dataset],
    ["Trained on", account.training_images && `${account.training_images.toLocaleString("en")} images, in ${account.fit_seconds.toFixed(1)} s`],
    ["Parameters", account.parameters?.toLocaleString("en")],
    ["Takes", `${height}×${width}, ${inColours(channels)}; other proportions are ${otherProportions(model)}`],
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
