// The lesson: one picture, from the pad or the test images, that all experiments use.

import { showFilm } from "../film/player.js";
import { openEngine } from "../page/engine.js";
import { Pad } from "../page/pad.js";
import { paint, shiftPixels, strokesToPixels } from "../page/picture.js";
import { openActivation } from "./activation.js";
import { openConvolution } from "./convolution.js";
import { openDense } from "./dense.js";
import { at, element } from "./figures.js";
import { openHidden } from "./hidden.js";
import { openInception } from "./inception.js";
import { showMeasured } from "./measured.js";
import { firstKernels, readNetwork } from "./network.js";
import { openNormalization } from "./normalization.js";
import { openPooling } from "./pooling.js";
import { openResidual } from "./residual.js";
import { showExperiments } from "./training.js";

const SHAPE = [28, 28, 1];
const DIGITS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];  // whose networks may answer for a drawn digit

let subjects = [];
let picture = { pixels: new Uint8Array(28 * 28), label: null };
let shift = [0, 0]; // of a drawing, by Shift and the arrow keys
let underWay = 0;

const pad = new Pad(at("pad"), { changed: () => drawn(), shift: shiftBy, say });
pad.drawable = true;

during(start());

async function start() {
  const files = ["networks.json", "blocks.json", "ladder.json", "experiments.json", "film.json", "lesson.json"];
  const [own, blocks, ladder, experiments, film, lesson, opened] = await Promise.all([...files.map(read), openEngine()]);
  const networks = own.map(readNetwork);
  const models = opened.catalogue.models;
  const served = models.filter((model) => `${model.input_shape}` === `${SHAPE}` && `${model.class_names}` === `${DIGITS}`);
  const learnt = lesson.learnt.length
    ? lesson.learnt
    : [{ name: "the lesson’s network", kernels: firstKernels(networks[1]) }];
  const tell = { say, during };
  const relu = openActivation(networks[1]);
  const normalization = openNormalization();
  const convolution = openConvolution(learnt, say, (map) => {
    relu.showMap(map);
    normalization.showMap(map);
  });
  subjects = [
    openDense(networks, served, opened.engine, tell), convolution, openPooling(say), relu, openHidden(networks[1]),
    openInception(), openResidual(blocks.map(readNetwork), experiments.depth),
  ];
  showMeasured(ladder);
  showExperiments(experiments);
  await showFilm(at("film"), film);
  showDigits(lesson.digits);
  at("undo").addEventListener("click", (event) => pad.undo(event.timeStamp));
  at("clear").addEventListener("click", (event) => pad.clear(event.timeStamp));
  at("page-link").hidden = !models.length;
  at("where").textContent = opened.catalogue.engine === "browser" || !served.length
    ? "Everything is computed in this browser. No picture leaves it."
    : "Pictures go to the server that this page came from, and nowhere else; it keeps none.";
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => showPicture(picture));
}

async function read(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
  return response.json();
}

function showDigits({ pixels, labels }) {
  const bytes = Uint8Array.from(atob(pixels), (letter) => letter.charCodeAt(0));
  const buttons = labels.map((label, index) => {
    const own = bytes.subarray(index * 784, (index + 1) * 784);
    const canvas = element("canvas", { "aria-hidden": "true" });
    paint(canvas, own, SHAPE);
    const button = element("button", { type: "button", "aria-label": `Test image ${index + 1}: a ${label}`, "aria-pressed": "false" }, canvas);
    button.addEventListener("click", () => choose(button, own, label));
    return button;
  });
  at("digits").replaceChildren(...buttons);
  buttons[0].click();
}

function choose(button, pixels, label) {
  press(button);
  pad.show([pixels, SHAPE]);
  showPicture({ pixels, label });
}

function press(button) {
  for (const other of at("digits").children) other.setAttribute("aria-pressed", String(other === button));
  at("pad-hint").hidden = button !== null || pad.strokes.length > 0;
}

function drawn() {
  shift = [0, 0];
  press(null);
  showPicture({ pixels: strokesToPixels(pad.strokes, 28), label: null });
}

function shiftBy([across, down]) {
  shift = shift.map((value, axis) => Math.min(8, Math.max(-8, value + [across, down][axis])));
  for (const [id, value] of [["across", shift[0]], ["down", shift[1]]]) {
    at(id).value = value;
    at(id).dispatchEvent(new Event("input"));
  }
}

function showPicture(shown) {
  picture = shown;
  const map = { height: 28, width: 28, values: Array.from(picture.pixels, (value) => value / 255) };
  for (const subject of subjects) subject.show({ ...picture, map, shifted: (x, y) => shiftPixels(picture.pixels, SHAPE, x, y) });
}

// Wait for what is under way, and tell of it where it fails. The body's data-busy is for those who watch.
async function during(work) {
  document.body.dataset.busy = ++underWay > 0;
  try {
    return await work;
  } catch (error) {
    at("problem").textContent = error.message;
    at("problem").hidden = false;
  } finally {
    document.body.dataset.busy = --underWay > 0;
  }
}

function say(text) {
  at("spoken").textContent = text;
}
