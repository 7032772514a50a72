// Subject 10: two real stacks, one of their blocks switched off; and what depth does, with and without shortcuts.

import { at, curves, element, percent, table } from "./figures.js";
import { answer } from "./network.js";

// stacks: the one without shortcuts, then the one with them.
export function openResidual(stacks, { about, curves: runs }) {
  let picture = null;
  const numbers = stacks[0].without.map((_, index) => index);
  at("block").replaceChildren(
    element("option", { value: "" }, "none"),
    ...numbers.map((index) => element("option", { value: index }, `block ${index + 1}`)),
  );
  at("block").addEventListener("change", update);
  const row = (name, cells) => element("tr", {}, element("th", { scope: "row" }, name),
    ...cells.map((share) => element("td", {}, percent(share, 1))));
  const rows = [
    row("none", stacks.map(({ accuracy }) => accuracy)),
    ...numbers.map((index) => row(`block ${index + 1}`, stacks.map(({ without }) => without[index]))),
  ];
  at("blocks-measured").replaceChildren(table(`Accuracy on MNIST’s 10,000 test images, after ${stacks[0].about}.`, ["Switched off", "Without shortcuts", "With shortcuts"], rows));
  showDepth(about, runs);

  function update() {
    const off = at("block").value === "" ? null : Number(at("block").value);
    rows.forEach((each, index) => each.classList.toggle("here", index === (off === null ? 0 : off + 1)));
    stacks.forEach((stack, index) => {
      const { probabilities } = answer(stack, picture.pixels, off);
      const label = probabilities.indexOf(Math.max(...probabilities));
      at(`stack-${index}`).textContent = label;
      at(`stack-${index}-sure`).textContent = `${percent(probabilities[label])} sure. Of the test images it answers `
        + `${percent(off === null ? stack.accuracy : stack.without[off], 1)} correctly.`;
    });
  }

  return {
    show(shown) {
      picture = shown;
      update();
    },
  };
}

function showDepth(about, runs) {
  const depths = [...new Set(Object.keys(runs).map((key) => Number(key.split(" ")[1])))];
  const last = (kind, measure) => depths.map((depth) => runs[`${kind} ${depth}`][measure].at(-1));
  const lines = [
    { values: last("with", "val_accuracy"), letter: "a" },
    { values: last("without", "val_accuracy"), letter: "b", dashed: true },
  ];
  const low = Math.floor(Math.min(...lines.flatMap(({ values }) => values)) * 5) / 5;
  const columns = [last("without", "accuracy"), last("without", "val_accuracy"), last("with", "accuracy"), last("with", "val_accuracy")];
  const rows = depths.map((depth, index) => element("tr", {}, element("th", { scope: "row" }, `${depth}`),
    ...columns.map((column) => element("td", {}, percent(column[index], 1)))));
  at("depth").append(
    curves(lines, {
      steps: depths, low, high: 1, label: (value) => percent(value), across: "layers with weights",
      named: "Validation accuracy by depth, with and without shortcuts. The table below holds the numbers.",
    }),
    element("p", { class: "legend" }, element("span", { class: "a" }, "—— with shortcuts"), element("span", { class: "b" }, "– – without")),
    table(`After the last epoch. ${about}.`, ["Layers", "Without: training", "Without: validation", "With: training", "With: validation"], rows),
  );
}
