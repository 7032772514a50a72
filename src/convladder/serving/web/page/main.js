// The page: a picture in, from the pad, a file or the test images; answers out, while it changes.

import { openEngine, pixelCount } from "./engine.js";
import { lookedFigures, paintOcclusion, paintShifts } from "./looked.js";
import { Pad } from "./pad.js";
import { hidden, paint, shiftPixels, shifts, strokesToPixels } from "./picture.js";
import * as views from "./views.js";
import * as words from "./words.js";
import { Zoom } from "./zoom.js";

const LARGEST_DRAWN = 64; // gray models of at most this side can be drawn for
const A_PAGE_OF_EXAMPLES = 12;
const PICTURES_A_REQUEST = 16;
const PAUSE = 250; // milliseconds of rest before the answer is spoken and the occlusion computed

const at = (id) => document.getElementById(id);
const selects = { a: at("model-a"), b: at("model-b") };
const bars = new views.Bars(at("bars"));
const pairs = Object.fromEntries(["occlusion", "stages", "accounts"].map((id) => [id, new views.Pair(at(id))]));
const pad = new Pad(at("pad"), { changed: drawn, shift: shiftBy, say });
const zoom = new Zoom();
const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 60rem)"); // as in style.css

let engine;
let models;
let source = { kind: "none" }; // or strokes; file, with its pixels by model; example, with its pixels and truth
let shift = [0, 0];
let examples = { list: [], first: 0 };
const readings = new Map(); // of models, to their test images
let answering = null; // a promise while answers are under way
let underWay = 0;
let asked = null; // the newest wish while answers are under way
let latest = []; // answers, of which the feature maps are shown
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
  wire();
  await choose();
  if (examples.list.length) showExample(examples.list[0]);
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
async function choose() {
  const second = selects.b.value;
  const first = models.find((model) => model.name === selects.a.value);
  const kind = (model) => JSON.stringify([model.input_shape, model.class_names]);
  const alike = models.filter((model) => model !== first && kind(model) === kind(first));
  selects.b.replaceChildren(...alike.map(option));
  if (alike.some((model) => model.name === second)) selects.b.value = second;
  selects.b.parentElement.hidden = !alike.length;
  describe(first, alike.length > 0);
  pairs.accounts.columns(chosen(), views.showAccount);
  bars.clear();
  await loadExamples();
  await refresh();
}

function describe(model, two) {
  const [height, width, channels] = model.input_shape;
  const drawable = channels === 1 && Math.max(height, width) <= LARGEST_DRAWN && height === width;
  at("lead").textContent = words.lead(drawable, two);
  at("pad-hint").textContent = words.hint(drawable);
  at("pad-help").textContent = words.help(drawable);
  at("input-caption").textContent = words.inputCaption(chosen());
  at("first").textContent = two ? "First network" : "Network";
  at("answer").classList.toggle("single", !two);
  const letters = Math.max(...model.class_names.flatMap((name) => name.split(/[\s-]+/)).map((word) => word.length));
  document.documentElement.style.setProperty("--letters", letters); // for what must hold a class's name
  at("answer").classList.toggle("named", letters > 3);
  pad.drawable = drawable;
  at("pad").classList.toggle("drawable", drawable);
  at("undo").hidden = !drawable;
  const kind = JSON.stringify(model.input_shape);
  if (described !== kind && described && source.kind !== "file") {
    source = { kind: "none" };
    pad.show(null);
  }
  if (described !== kind) shift = [0, 0];
  described = kind;
  pad.draw();
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
  dark.addEventListener("change", () => refresh());
  narrow.addEventListener("change", () => showStages(latest));
}

// Sources

function drawn(time) {
  source = pad.strokes.length ? { kind: "strokes" } : { kind: "none" };
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
  const bitmap = await createImageBitmap(file).catch(() => null);
  pad.show(bitmap ?? [pixels.values().next().value, chosen()[0].input_shape], file.name || "a pasted picture");
  shift = [0, 0];
  tidy();
  await refresh();
}

function showExample({ pixels, truth }) {
  source = { kind: "example", pixels, truth };
  pad.show([pixels, chosen()[0].input_shape], `test image: ${truth}`);
  shift = [0, 0];
  tidy();
  refresh();
}

async function loadExamples() {
  const teller = chosen().find((model) => model.examples);
  const list = teller ? await readExamples(teller) : [];
  if (teller !== chosen().find((model) => model.examples)) return; // others were chosen meanwhile
  examples = { list, first: 0 };
  at("examples").hidden = !list.length;
  if (teller) at("examples-note").textContent = words.examplesNote(teller);
  showThumbnails();
}

async function readExamples(model) {
  if (!readings.has(model.name)) {
    const response = await fetch(model.examples.file);
    if (!response.ok) return [];
    const bytes = new Uint8Array(await response.arrayBuffer());
    const size = pixelCount(model);
    readings.set(model.name, model.examples.labels.map((label, index) => ({
      truth: model.class_names[label],
      misjudged: model.examples.misjudged[index],
      pixels: bytes.subarray(index * size, (index + 1) * size),
    })));
  }
  return readings.get(model.name);
}

function showThumbnails() {
  const [model] = chosen();
  const shown = examples.list.slice(examples.first, examples.first + A_PAGE_OF_EXAMPLES);
  at("thumbnails").replaceChildren(...shown.map((example, place) => {
    const { pixels, truth, misjudged } = example;
    const canvas = views.element("canvas", { "aria-hidden": "true" });
    paint(canvas, pixels, model.input_shape);
    const name = `Test image ${examples.first + place + 1}: ${truth}${misjudged ? ", misjudged" : ""}`;
    const button = views.element("button", { type: "button", "aria-label": name }, canvas, views.element("span", {}, truth));
    button.classList.toggle("misjudged", misjudged);
    button.addEventListener("click", () => showExample(example));
    return button;
  }));
  press();
}

function press() {
  [...at("thumbnails").children].forEach((button, place) => {
    button.setAttribute("aria-pressed", String(source.pixels === examples.list[examples.first + place].pixels));
  });
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
  at("preparing").textContent = words.preparation(chosen(), source.kind, pad.drawable);
  press();
}

async function pixelsFor(model) {
  const { kind, pixels, file } = source; // which may be another one after a wait
  if (kind === "strokes") return strokesToPixels(pad.strokes, model.input_shape[0]);
  if (kind === "example") return pixels;
  if (!pixels.has(model.name)) pixels.set(model.name, await engine.decode(model, file));
  return pixels.get(model.name);
}

// Answers

// One round of answers at a time; what changes meanwhile is answered in the next, and only its latest state.
function refresh(time = performance.now()) {
  generation++;
  at("occlusion").setAttribute("aria-busy", "true"); // what it shows is of the picture before
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
  const { kind, truth } = source;
  if (kind === "none") return showNothing();
  const answers = await Promise.all(shown.map(async (model) => {
    const pixels = shiftPixels(await pixelsFor(model), model.input_shape, ...shift);
    return { model, pixels, truth, ...(await engine.answer(model, pixels, { maps: true })) };
  }));
  paint(at("input"), answers[0].pixels, shown[0].input_shape);
  answers.forEach((answered, index) => views.showVerdict("ab"[index], answered));
  at("truth").hidden = truth === undefined;
  at("truth").textContent = `Right answer: ${truth}`;
  bars.show(answers);
  const took = performance.now() - time;
  performance.measure("stroke to bars", { start: time, end: time + took });
  at("timing").textContent = `Answered in ${Math.max(1, Math.round(took))} ms`;
  showStages(answers);
  if (!asked) rest = setTimeout(() => atRest(answers).catch(complain), PAUSE);
}

// Their size is the window's: once that changes they are painted again, without a question to the networks.
function showStages(answers) {
  latest = answers;
  const figures = pairs.stages.columns(
    answers.map(({ model }) => model),
    (model, column) => views.stageFigures(model, column, zoom),
  );
  const across = narrow.matches ? 4 : 8;
  answers.forEach(({ model, maps }, index) => views.paintStages(figures[index], model, maps, colours(index), across));
}

function showNothing() {
  const [model] = chosen();
  paint(at("input"), new Uint8Array(pixelCount(model)), model.input_shape);
  at("input").setAttribute("aria-label", "Input: nothing yet");
  views.clearVerdict("a");
  views.clearVerdict("b");
  at("truth").hidden = true;
  bars.clear();
  pairs.occlusion.columns([]);
  showStages([]);
  at("timing").textContent = "\u00a0";
}

async function atRest(answers) {
  const [{ truth }] = answers;
  const said = answers.map((answered) => {
    const { model, probabilities } = answered;
    const top = views.best(probabilities);
    const unlike = views.isUnlike(answered) ? `, but the picture is ${views.UNLIKE}` : "";
    return `${model.name} says ${model.class_names[top]}, ${views.percent(probabilities[top])}${unlike}`;
  });
  say(`${said.join("; ")}.${truth === undefined ? "" : ` The right answer is ${truth}.`}`);
  at("input").setAttribute("aria-label", `Input: ${at("shifted").textContent}. ${said.join("; ")}.`);
  // What a photograph shows has no empty ground to be shifted on.
  at("shifting").hidden = !pad.drawable;
  const figures = pairs.occlusion.columns(
    answers.map(({ model }) => model),
    (model, column) => lookedFigures(model, column, pad.drawable),
  );
  const mine = generation;
  for (const [index, answered] of answers.entries()) {
    const { model, pixels, probabilities } = answered;
    const top = views.best(probabilities);
    const classes = model.class_names.length;
    const squares = hidden(pixels, model.input_shape);
    const without = await answerAll(model, squares.places.map(squares.picture), () => mine === generation);
    if (!without) return;
    const drops = squares.places.map((_, place) => probabilities[top] - without[place * classes + top]);
    paintOcclusion(figures[index].looked, answered, squares, drops);
    if (!figures[index].shifted) continue;
    const moves = shifts(model.input_shape);
    const unshifted = await pixelsFor(model);
    const pictures = moves.map((move) => shiftPixels(unshifted, model.input_shape, ...move));
    const moved = await answerAll(model, pictures, () => mine === generation);
    if (!moved) return;
    paintShifts(figures[index].shifted, model, moves, moved, shift, colours(index));
  }
  at("occlusion").setAttribute("aria-busy", "false");
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
