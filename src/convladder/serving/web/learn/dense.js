// Subject 1: parameters of a dense layer and of a convolution; both kinds of network under a shift.

import { convolutionParameters, denseParameters } from "./arithmetic.js";
import { at, element, paintMap, percent } from "./figures.js";
import { answer } from "./network.js";

const REACH = 8; // pixels
const PICTURES_A_REQUEST = 16;
const PAUSE = 400; // milliseconds of rest before the answers are spoken
const OWN = { dense: "lesson’s dense", deep: "lesson’s convolutional" };

export function openDense(own, served, engine, { say, during }) {
  countParameters();
  const networks = [
    ...own.map((network) => ({
      name: `${OWN[network.rung]}, ${percent(network.accuracy, 1)} on MNIST`,
      dense: network.rung === "dense",
      answers: async (pictures) => pictures.map((pixels) => answer(network, pixels).probabilities),
    })),
    ...served.map((model) => ({
      name: model.name,
      dense: model.account?.rung === "dense",
      answers: (pictures) => ask(engine, model, pictures),
    })),
  ];
  const choose = (dense) => networks.findLastIndex((network) => network.dense === dense);
  let picture = null;
  let generation = 0;
  let rest;

  for (const [letter, chosen] of [["a", choose(true)], ["b", choose(false)]]) {
    const select = at(`network-${letter}`);
    select.replaceChildren(...networks.map(({ name }, index) => element("option", { value: index }, name)));
    select.value = chosen;
    select.addEventListener("change", () => during(update()));
  }
  for (const id of ["across", "down"]) at(id).addEventListener("input", () => during(update()));

  async function update() {
    const mine = ++generation;
    const [across, down] = [Number(at("across").value), Number(at("down").value)];
    at("across-shown").textContent = places(across, "right", "left");
    at("down-shown").textContent = places(down, "down", "up");
    const pixels = picture.shifted(across, down);
    const map = { height: 28, width: 28, values: Array.from(pixels, (value) => value / 255) };
    paintMap(at("shifted-picture"), map, { ink: true, peak: 1 });
    const name = picture.label === null ? "Your drawing" : `A ${picture.label}`;
    at("shifted-caption").textContent = across || down ? `${name}, shifted` : name;
    const offsets = Array.from({ length: 2 * REACH + 1 }, (_, index) => index - REACH);
    const pictures = [picture.pixels, ...offsets.map((offset) => picture.shifted(offset, down))];
    const said = [];
    for (const letter of ["a", "b"]) {
      const network = networks[at(`network-${letter}`).value];
      const [middle, ...moved] = await network.answers(pictures);
      if (mine !== generation) return;
      const truth = picture.label ?? best(middle);
      const here = moved[across + REACH];
      showAnswer(letter, best(here), here[best(here)], truth);
      showRow(letter, offsets, moved.map(best), truth, across);
      said.push(`${network.name} says ${best(here)}, ${percent(here[best(here)])}`);
    }
    clearTimeout(rest);
    rest = setTimeout(() => say(`${said.join("; ")}.`), PAUSE);
  }

  function showAnswer(letter, label, probability, truth) {
    at(`answer-${letter}`).textContent = label;
    const judged = label === truth ? "right" : "wrong";
    const kept = label === truth ? "as without a shift" : "another answer than without a shift";
    at(`sure-${letter}`).textContent = `${percent(probability)} sure; ${picture.label === null ? kept : judged}`;
  }

  function showRow(letter, offsets, labels, truth, across) {
    const cells = offsets.map((offset, index) => {
      const names = [labels[index] === truth && "kept", offset === across && "here"].filter(Boolean);
      return element("span", { class: names.join(" ") }, `${labels[index]}`);
    });
    const kept = labels.filter((label) => label === truth).length;
    const text = `Still ${truth} at ${kept} of ${offsets.length} shifts, from ${REACH} pixels left to ${REACH} right.`;
    at(`row-${letter}`).replaceChildren(...cells);
    at(`row-${letter}`).setAttribute("aria-label", `Answers: ${labels.join(", ")}.`);
    at(`kept-${letter}`).textContent = text;
  }

  return {
    show(shown) {
      picture = shown;
      during(update());
    },
  };
}

function countParameters() {
  const count = () => {
    const [side, channels, units] = [Number(at("side").value), Number(at("channels").value), 2 ** Number(at("units").value)];
    const number = (value) => value.toLocaleString("en");
    const dense = denseParameters(side, channels, units);
    const convolution = convolutionParameters(3, channels, units);
    at("side-shown").textContent = `${side} pixels`;
    at("units-shown").textContent = number(units);
    at("dense-count").textContent = `${side} · ${side} · ${channels} · ${number(units)} + ${number(units)} = ${number(dense)} parameters`;
    at("convolution-count").textContent = `3 · 3 · ${channels} · ${number(units)} + ${number(units)} = ${number(convolution)} parameters`;
    at("dense-bar").style.width = "100%";
    at("convolution-bar").style.width = `${(100 * convolution) / dense}%`;
    at("count-ratio").textContent = `The dense layer has ${number(Math.round(dense / convolution))} times as many. The last number of each sum is the biases, one a unit or filter.`;
  };
  for (const id of ["side", "channels", "units"]) at(id).addEventListener("input", count);
  count();
}

async function ask(engine, model, pictures) {
  const answers = [];
  for (let first = 0; first < pictures.length; first += PICTURES_A_REQUEST) {
    const some = pictures.slice(first, first + PICTURES_A_REQUEST);
    const batch = new Uint8Array(some.length * 784);
    some.forEach((pixels, index) => batch.set(pixels, index * 784));
    const { probabilities } = await engine.answer(model, batch, { count: some.length });
    some.forEach((_, index) => answers.push(Array.from(probabilities.slice(index * 10, (index + 1) * 10))));
  }
  return answers;
}

function best(probabilities) {
  return probabilities.indexOf(Math.max(...probabilities));
}

function places(value, positive, negative) {
  return value ? `${Math.abs(value)} ${value > 0 ? positive : negative}` : "0";
}
