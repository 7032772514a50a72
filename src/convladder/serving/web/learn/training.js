// Subjects 5, 6, 7 and 10: curves of training, kept in experiments.json, by choice.

import { curves, element, format, percent } from "./figures.js";

const CHOICES = {
  rates: { label: "Learning rate", about: "The rung pool on 1,000 training images, batches of 32" },
  regularized: { label: "Regularization", about: "The rung pool on 500 training images, batches of 32. Under L1 and L2 the loss contains the penalty" },
  normalized: { label: "Batch normalization", about: "The rung pool or batchnorm on 1,000 training images, batches of 32" },
};
const MEASURES = {
  loss: { low: 0, high: 2.4, label: (value) => format(value, 1), name: "Loss" },
  accuracy: { low: 0, high: 1, label: (value) => percent(value), name: "Accuracy" },
};

export function showExperiments(experiments) {
  for (const box of document.querySelectorAll("[data-experiment]")) {
    const name = box.dataset.experiment;
    if (name === "depth") showDepth(box, experiments.depth, experiments.seeds);
    else showCurves(box, name, experiments[name], experiments.seeds);
  }
}

function showCurves(box, name, runs, seeds) {
  const { label, about } = CHOICES[name];
  const choice = element("select", {}, ...Object.keys(runs).map((key) => element("option", {}, key)));
  const measure = element("select", {}, element("option", { value: "loss" }, "loss"), element("option", { value: "accuracy" }, "accuracy"));
  const plot = element("div");
  const told = element("p", { class: "total" });
  const best = (run) => run.val_loss.indexOf(Math.min(...run.val_loss));
  const update = () => {
    const run = runs[choice.value];
    const lines = [
      { values: run[measure.value], letter: "a" },
      { values: run[`val_${measure.value}`], letter: "b", dashed: true },
    ];
    const { name: shown, ...scale } = MEASURES[measure.value];
    plot.replaceChildren(curves(lines, { ...scale, across: "epoch", named: `${shown} by epoch. ${label}: ${choice.value}. The table below holds the numbers.` }));
    told.textContent = `Lowest validation loss: ${format(run.val_loss[best(run)])}, after epoch ${best(run) + 1}.`;
  };
  for (const select of [choice, measure]) select.addEventListener("change", update);
  const rows = Object.entries(runs).map(([key, run]) => element("tr", {}, element("th", { scope: "row" }, key),
    ...[percent(run.accuracy.at(-1), 1), percent(run.val_accuracy.at(-1), 1), format(run.loss.at(-1)), format(run.val_loss.at(-1)), `${best(run) + 1}`]
      .map((text) => element("td", {}, text))));
  const head = [label, "Training accuracy", "Validation accuracy", "Training loss", "Validation loss", "Lowest after epoch"];
  box.append(
    element("div", { class: "controls" }, element("label", {}, label, " ", choice), element("label", {}, "Show ", measure)),
    plot,
    element("p", { class: "legend" }, element("span", { class: "a" }, "—— training images"), element("span", { class: "b" }, "– – validation images")),
    told,
    table(`${about}. After the last epoch, mean of ${seeds} seeds.`, head, rows),
  );
  update();
}

function showDepth(box, runs, seeds) {
  const depths = Object.keys(runs).filter((key) => key.startsWith("with ")).map((key) => Number(key.split(" ")[1]));
  const values = (kind, measure) => depths.map((depth) => runs[`${kind} ${depth}`][measure].at(-1));
  const lines = [{ values: values("with", "val_accuracy"), letter: "a" }, { values: values("without", "val_accuracy"), letter: "b", dashed: true }];
  const all = lines.flatMap((line) => line.values);
  const low = Math.floor(Math.min(...all) * 10) / 10;
  const rows = depths.map((depth, index) => element("tr", {}, element("th", { scope: "row" }, `${depth}`),
    ...[values("without", "accuracy"), values("without", "val_accuracy"), values("with", "accuracy"), values("with", "val_accuracy")]
      .map((column) => element("td", {}, percent(column[index], 1)))));
  box.append(
    curves(lines, { steps: depths, low, high: 1, label: (value) => percent(value, 1), across: "convolutions in the stack", named: "Validation accuracy by depth, with and without shortcuts. The table below holds the numbers." }),
    element("p", { class: "legend" }, element("span", { class: "a" }, "—— with shortcuts"), element("span", { class: "b" }, "– – without")),
    table(`The rungs deep and residual on 1,000 training images, 16 epochs, batches of 32, mean of ${seeds} seeds.`,
      ["Depth", "Without: training", "Without: validation", "With: training", "With: validation"], rows),
  );
}

function table(caption, head, rows) {
  return element("div", { class: "scrolled", tabindex: "0", role: "region", "aria-label": caption },
    element("table", { class: "measured" }, element("caption", {}, caption),
      element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)))),
      element("tbody", {}, ...rows)));
}
