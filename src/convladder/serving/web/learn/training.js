// Subjects 5, 6 and 7: curves of real trainings, kept in experiments.json, by choice and number of epochs.

import { curves, element, format, percent, table } from "./figures.js";

const CHOICES = { rates: "Learning rate", regularized: "Regularization", normalized: "Batch normalization" };
const MEASURES = {
  loss: { low: 0, high: 2.4, label: (value) => format(value, 1), name: "Loss" },
  accuracy: { low: 0, high: 1, label: (value) => percent(value), name: "Accuracy" },
};
const HEAD = ["Training accuracy", "Validation accuracy", "Training loss", "Validation loss", "Lowest validation loss"];

export function showExperiments(experiments) {
  for (const box of document.querySelectorAll("[data-experiment]")) {
    const name = box.dataset.experiment;
    showCurves(box, CHOICES[name], experiments[name]);
  }
}

function showCurves(box, label, { about, curves: runs }) {
  const most = Object.values(runs)[0].loss.length;
  const steps = Array.from({ length: most }, (_, index) => index + 1);
  const choice = element("select", {}, ...Object.keys(runs).map((key) => element("option", {}, key)));
  choice.value = box.dataset.first ?? choice.value;
  const measure = element("select", {}, element("option", { value: "loss" }, "loss"), element("option", { value: "accuracy" }, "accuracy"));
  const epochs = element("input", { type: "range", min: 1, max: most, step: 1, value: most });
  const shown = element("output");
  const plot = element("div");
  const numbers = element("div");
  const update = () => {
    const count = Number(epochs.value);
    const some = Object.fromEntries(Object.entries(runs).map(([key, run]) => [key, cut(run, count)]));
    const run = some[choice.value];
    const { name, ...scale } = MEASURES[measure.value];
    shown.textContent = count;
    plot.replaceChildren(curves(
      [{ values: run[measure.value], letter: "a" }, { values: run[`val_${measure.value}`], letter: "b", dashed: true }],
      { ...scale, steps, across: "epoch", named: `${name} by epoch. ${label}: ${choice.value}. The table below holds the numbers.` },
    ));
    const rows = Object.entries(some).map(([key, one]) => row(key, one, key === choice.value));
    numbers.replaceChildren(table(`After epoch ${count}. ${about}.`, [label, ...HEAD], rows));
  };
  for (const control of [choice, measure, epochs]) control.addEventListener("input", update);
  box.append(
    element("div", { class: "controls" }, element("label", {}, label, " ", choice), element("label", {}, "Epochs ", epochs, shown), element("label", {}, "Show ", measure)),
    plot,
    element("p", { class: "legend" }, element("span", { class: "a" }, "—— training images"), element("span", { class: "b" }, "– – validation images")),
    numbers,
  );
  update();
}

function cut(run, count) {
  return Object.fromEntries(Object.entries(run).map(([measure, values]) => [measure, values.slice(0, count)]));
}

function row(name, { accuracy, val_accuracy, loss, val_loss }, here) {
  const lowest = Math.min(...val_loss);
  const cells = [
    percent(accuracy.at(-1), 1), percent(val_accuracy.at(-1), 1), loss.at(-1).toFixed(2), val_loss.at(-1).toFixed(2),
    `${lowest.toFixed(2)} after epoch ${val_loss.indexOf(lowest) + 1}`,
  ];
  return element("tr", here ? { class: "here" } : {}, element("th", { scope: "row" }, name), ...cells.map((text) => element("td", {}, text)));
}
