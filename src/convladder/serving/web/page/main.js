// The page: a picture in, from the pad, a file or the test images; answers out, while it changes.

import { openEngine, pixelCount } from "./engine.js";
import { Pad } from "./pad.js";
import { hidden, paint, shiftPixels, shifts, strokesToPixels } from "./picture.js";
import * as views from "./views.js";

const LARGEST_DRAWN = 64; // gray models of at most this side can be drawn for
const A_PAGE_OF_EXAMPLES = 12;
const PICTURES_A_REQUEST = 16;
const PAUSE = 250; // milliseconds of rest before the answer is spoken and the occlusion computed

const at = (id) => document.getElementById(id);
const selects = { a: at("model-a"), b: at("model-b") };
const bars = new views.Bars(at("bars"));
const pairs = Object.fromEntries(["occlusion", "stages", "accounts"].map((id) => [id, new views.Pair(at(id))]));
const pad = new Pad(at("pad"), { changed: drawn, shift: shiftBy, say });

let engine;
let models;
let source = { kind: "none" }; // or strokes; file, with its pixels by model; example, with its pixels
let shift = [0, 0];
let examples = { list: [], first: 0 };
let answering = null; // a promise while answers are under way
let underWay = 0;
let asked = null; // the newest wish while answers are under way
let rest; // the timer behind PAUSE
let described; // the input shape that the page is laid out for
let generation = 0; // of the picture: what was computed for an older one is dropped

during(start());

async function start() {
  const opened = await openEngine();
  engine = opened.engine;
  models = opened.catalogue.models;
  at("where").textContent = opened.catalogue.engine === "browser"
    ? "Everything is computed in this browser, by ONNX Runtime Web. No picture leaves it."
    : "Pictures go to the server that this page came from, and nowhere else; it keeps none.";
  selects.a.replaceChildren(...models.map(option));
  for (const select of Object.values(selects)) select.addEventListener("change", () => during(choose()));
  // Of several models first the best beside the worst, which shows the most.
  const score = (model) => model.account.test_accuracy ?? 0;
  const ranked = [...models].sort((one, other) => score(other) - score(one));
  selects.a.value = ranked[0].name;
  wire();
  await choose(ranked.at(-1).name);
  if (examples.list.length) showExample(0);
}

function option(model) {
  return views.element("option", { value: model.name }, model.name);
}

function chosen() {
  return Object.values(selects)
    .map((select) => models.find((model) => model.name === select.value))
    .filter(Boolean);
}

// The second network takes and gives what the first does, so that both see one picture.
async function choose(second = selects.b.value) {
  const first = models.find((model) => model.name === selects.a.value);
  const kind = (model) => JSON.stringify([model.input_shape, model.class_names]);
  const alike = models.filter((model) => model !== first && kind(model) === kind(first));
  selects.b.replaceChildren(...alike.map(option));
  if (alike.some((model) => model.name === second)) selects.b.value = second;
  selects.b.parentElement.hidden = !alike.length;
  at("answer").classList.toggle("single", !alike.length);
  describe(first, alike.length > 0);
  pairs.accounts.columns(chosen(), views.showAccount);
  bars.clear();
  await loadExamples(first);
  await refresh();
}

function describe(model, two) {
  const [height, width, channels] = model.input_shape;
  const drawable = channels === 1 && Math.max(height, width) <= LARGEST_DRAWN && height === width;
  const what = drawable ? "Draw, or show a picture" : "Show a picture";
  at("lead").textContent = `${what}: see what ${two ? "two networks make" : "the network makes"} of it, and how.`;
  at("pad-hint").textContent = drawable ? "Draw here\nor drop a picture" : "Drop or paste a picture here";
  at("pad-help").textContent = drawable
    ? "Mouse, finger or pen; or arrow keys to move and the space bar to put the pen down and up. Pictures can be dropped and pasted."
    : "Pictures can be dropped and pasted too.";
  at("preparing").textContent = (drawable
    ? `Drawings are prepared as MNIST’s digits were: the longer side scaled to ${Math.round((20 / 28) * width)} pixels, the centre of mass moved to the middle of ${width}×${height}. `
    : "") + `Pictures are brought to ${width}×${height} in ${channels === 1 ? "gray" : "colours"} (${model.fit}), as they were for training.`;
  pad.drawable = drawable;
  at("pad").classList.toggle("drawable", drawable);
  at("undo").hidden = !drawable;
  const kind = JSON.stringify(model.input_shape);
  if (described !== kind && described) {
    pad.show(null);
    source = { kind: "none" };
    shift = [0, 0];
  }
  described = kind;
  tidy();
}

function wire() {
  at("undo").addEventListener("click", (event) => pad.undo(event.timeStamp));
  at("clear").addEventListener("click", (event) => pad.clear(event.timeStamp));
  at("file").addEventListener("change", (event) => {
    showFile(event.target.files[0]);
    event.target.value = ""; // so that the same file can be chosen again
  });
  for (const button of document.querySelectorAll("[data-shift]")) {
    button.addEventListener("click", () => shiftBy(button.dataset.shift.split(",").map(Number)));
  }
  at("more").addEventListener("click", () => {
    examples.first = (examples.first + A_PAGE_OF_EXAMPLES) % examples.list.length;
    showThumbnails();
  });
  document.addEventListener("paste", (event) => showFile(event.clipboardData.files[0]));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  for (const name of ["dragleave", "drop"]) {
    document.addEventListener(name, () => document.body.classList.remove("dropping"));
  }
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    showFile(event.dataTransfer.files[0]);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => refresh());
}

// Sources

function drawn(time) {
  source = pad.strokes.length ? { kind: "strokes" } : { kind: "none" };
  unpress();
  tidy();
  refresh(time);
}

function showFile(file) {
  if (file) during(decodeAndShow(file));
}

async function decodeAndShow(file) {
  const pixels = new Map();
  for (const model of chosen()) pixels.set(model.name, await engine.decode(model, file));
  source = { kind: "file", file, pixels };
  pad.show(await createImageBitmap(file).catch(() => [pixels.values().next().value, chosen()[0].input_shape]));
  shift = [0, 0];
  unpress();
  tidy();
  await refresh();
}

function showExample(index) {
  const { pixels, label } = examples.list[index];
  source = { kind: "example", pixels, label };
  pad.show([pixels, chosen()[0].input_shape]);
  shift = [0, 0];
  unpress();
  at("thumbnails").children[index - examples.first]?.setAttribute("aria-pressed", "true");
  tidy();
  refresh();
}

function unpress() {
  for (const button of at("thumbnails").children) button.setAttribute("aria-pressed", "false");
}

async function loadExamples(model) {
  examples = { list: [], first: 0 };
  if (model.examples) {
    const response = await fetch(model.examples.file);
    if (response.ok) {
      const bytes = new Uint8Array(await response.arrayBuffer());
      const size = pixelCount(model);
      examples.list = model.examples.labels.map((label, index) => ({
        label,
        misjudged: model.examples.misjudged[index],
        pixels: bytes.subarray(index * size, (index + 1) * size),
      }));
    }
  }
  at("examples").hidden = !examples.list.length;
  showThumbnails();
}

function showThumbnails() {
  const [model] = chosen();
  const shown = examples.list.slice(examples.first, examples.first + A_PAGE_OF_EXAMPLES);
  at("thumbnails").replaceChildren(...shown.map(({ pixels, label, misjudged }, place) => {
    const canvas = views.element("canvas", { "aria-hidden": "true" });
    paint(canvas, pixels, model.input_shape);
    const name = `Test image ${examples.first + place + 1}: ${model.class_names[label]}${misjudged ? ", misjudged" : ""}`;
    const button = views.element("button", { type: "button", "aria-label": name, "aria-pressed": "false" }, canvas);
    button.classList.toggle("misjudged", misjudged);
    button.addEventListener("click", () => showExample(examples.first + place));
    return button;
  }));
}

function shiftBy([across, down]) {
  const [height, width] = chosen()[0].input_shape;
  const step = Math.max(1, Math.round(width / 14));
  const within = (value, side) => Math.min(side >> 1, Math.max(-(side >> 1), value));
  shift = across || down ? [within(shift[0] + across * step, width), within(shift[1] + down * step, height)] : [0, 0];
  tidy();
  refresh();
}

function tidy() {
  const empty = source.kind === "none";
  at("pad-hint").hidden = !empty;
  at("undo").disabled = source.kind !== "strokes";
  at("clear").disabled = empty;
  const parts = [];
  if (shift[0]) parts.push(`${Math.abs(shift[0])} px ${shift[0] > 0 ? "right" : "left"}`);
  if (shift[1]) parts.push(`${Math.abs(shift[1])} px ${shift[1] > 0 ? "down" : "up"}`);
  at("shifted").textContent = parts.length ? parts.join(", ") : "not shifted";
}

async function pixelsFor(model) {
  let pixels;
  if (source.kind === "strokes") pixels = strokesToPixels(pad.strokes, model.input_shape[0]);
  else if (source.kind === "example") pixels = source.pixels;
  else {
    if (!source.pixels.has(model.name)) source.pixels.set(model.name, await engine.decode(model, source.file));
    pixels = source.pixels.get(model.name);
  }
  return pixels;
}

// Answers

// One round of answers at a time; what changes meanwhile is answered in the next, and only its latest state.
function refresh(time = performance.now()) {
  generation++;
  clearTimeout(rest);
  asked = { time };
  answering ??= during(answerAsked());
  return answering;
}

async function answerAsked() {
  try {
    while (asked) {
      const { time } = asked;
      asked = null;
      await answer(time);
    }
    at("problem").hidden = true;
  } finally {
    answering = null;
  }
}

// Wait for what is under way, and tell of it where it fails. The body's data-busy is for those who watch.
async function during(work) {
  document.body.dataset.busy = ++underWay > 0;
  try {
    await work;
  } catch (error) {
    complain(error);
  } finally {
    document.body.dataset.busy = --underWay > 0;
  }
}

async function answer(time) {
  const shown = chosen();
  if (source.kind === "none") return showNothing();
  const answers = await Promise.all(shown.map(async (model) => {
    const pixels = shiftPixels(await pixelsFor(model), model.input_shape, ...shift);
    return { model, pixels, ...(await engine.answer(model, pixels, { maps: true })) };
  }));
  paint(at("input"), answers[0].pixels, shown[0].input_shape);
  answers.forEach(({ model, probabilities }, index) => views.showVerdict("ab"[index], model, probabilities));
  bars.show(answers);
  const took = performance.now() - time;
  performance.measure("stroke to bars", { start: time, end: time + took });
  at("timing").textContent = `${Math.max(1, Math.round(took))} ms from your hand to these bars`;
  const figures = pairs.stages.columns(shown, views.stageFigures);
  answers.forEach(({ model, maps }, index) => views.paintStages(figures[index], model, maps, colours(index)));
  rest = setTimeout(() => atRest(answers).catch(complain), PAUSE);
}

function showNothing() {
  const [model] = chosen();
  paint(at("input"), new Uint8Array(pixelCount(model)), model.input_shape);
  at("input").setAttribute("aria-label", "What the network gets: nothing yet");
  views.clearVerdict("a");
  views.clearVerdict("b");
  bars.clear();
  at("timing").textContent = "\u00a0";
}

async function atRest(answers) {
  const said = answers.map(({ model, probabilities }) => {
    const top = views.best(probabilities);
    return `${model.name} says ${model.class_names[top]}, ${views.percent(probabilities[top])}`;
  });
  const truth = source.kind === "example" ? ` It is ${answers[0].model.class_names[source.label]}.` : "";
  say(`${said.join("; ")}.${truth}`);
  at("input").setAttribute("aria-label", `What the network gets: ${at("shifted").textContent}. ${said.join("; ")}.`);
  const figures = pairs.occlusion.columns(answers.map(({ model }) => model), lookedFigures);
  const mine = generation;
  for (const [index, answered] of answers.entries()) {
    const { model, pixels, probabilities } = answered;
    const top = views.best(probabilities);
    const classes = model.class_names.length;
    const squares = hidden(pixels, model.input_shape);
    const without = await answerAll(model, squares.places.map(squares.picture), () => mine === generation);
    if (!without) return;
    const drops = squares.places.map((_, place) => probabilities[top] - without[place * classes + top]);
    views.paintOcclusion(figures[index].looked, answered, squares, drops, colours(index).above);
    if (!figures[index].shifted) continue;
    const moves = shifts(model.input_shape);
    const unshifted = await pixelsFor(model);
    const pictures = moves.map((move) => shiftPixels(unshifted, model.input_shape, ...move));
    const moved = await answerAll(model, pictures, () => mine === generation);
    if (!moved) return;
    views.paintShifts(figures[index].shifted, model, moves, moved, shift, colours(index));
  }
}

function lookedFigures(model, column) {
  const figure = (name) => {
    const canvas = views.element("canvas", { role: "img", "aria-label": `What ${model.name} looked at: not yet known`, class: name });
    const caption = views.element("figcaption");
    column.append(views.element("figure", {}, canvas, caption));
    return { canvas, caption };
  };
  at("shifting").hidden = !pad.drawable; // what a photograph shows has no empty ground to be shifted on
  return { looked: figure("hiding"), shifted: pad.drawable ? figure("shifts") : null };
}

// The probabilities of many pictures, or null once they are not wanted any more.
async function answerAll(model, pictures, current) {
  const classes = model.class_names.length;
  const all = new Float32Array(pictures.length * classes);
  for (let first = 0; first < pictures.length; first += PICTURES_A_REQUEST) {
    const some = pictures.slice(first, first + PICTURES_A_REQUEST);
    const batch = new Uint8Array(some.length * some[0].length);
    some.forEach((pixels, index) => batch.set(pixels, index * pixels.length));
    const { probabilities } = await engine.answer(model, batch, { count: some.length });
    if (!current()) return null;
    all.set(probabilities, first * classes);
  }
  return all;
}

function colours(index) {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim().slice(1).match(/../g).map((part) => parseInt(part, 16));
  return {
    ground: read("--paper"),
    above: read(index ? "--second" : "--first"),
    below: read("--below"),
    gap: read("--line"),
    ink: read("--ink"),
  };
}

function say(text) {
  at("spoken").textContent = text;
}

function complain(error) {
  at("problem").textContent = error.message;
  at("problem").hidden = false;
}
