// What the ladder measured, from ladder.json, at the end of each subject.

import { element, percent } from "./figures.js";

export function showMeasured({ source, models, pairs, claims, shifts }) {
  const all = (name) => document.querySelectorAll(`[data-${name}]`);
  for (const place of all("models")) {
    const names = place.dataset.models.split(" ");
    place.replaceChildren(table(names.map((name) => models.find((model) => model.name === name)), source));
  }
  for (const place of all("pair")) {
    const { words } = pairs.find(({ upper }) => upper === place.dataset.pair);
    place.replaceChildren(...coded(`${words}. In brackets: the 95 % interval.`));
  }
  for (const place of all("claim")) {
    const { claim, measured, verdict } = claims.find((one) => one.claim.startsWith(place.dataset.claim));
    place.textContent = `The article says: “${claim}.” Measured with the article’s own recipe: ${measured}. Verdict: ${verdict}.`;
  }
  for (const place of all("shifts")) {
    const said = place.dataset.shifts.split(" ").map((name) => {
      const accuracies = shifts[{ linear_head: "no hidden layers", inception: "reduced inception" }[name] ?? name];
      return `${name} ${percent(accuracies[0], 1)} and ${percent(accuracies[4], 1)}`;
    });
    place.textContent = `Accuracy on MNIST’s test images as they are, and shifted by 4 pixels, with the article’s recipe: ${said.join("; ")}.`;
  }
}

function table(rows, source) {
  const head = ["Rung", "Test accuracy", "95 % interval", "Parameters", "MACs", "Seconds of training"];
  const row = ({ name, test_accuracy, low, high, parameters, macs, fit_seconds }) => {
    const cells = [
      percent(test_accuracy, 2), `${percent(low, 2).replace(" %", "")} to ${percent(high, 2)}`,
      parameters.toLocaleString("en"), macs.toLocaleString("en"), fit_seconds.toFixed(1),
    ];
    const heading = element("th", { scope: "row" }, element("code", {}, name));
    return element("tr", {}, heading, ...cells.map((text) => element("td", {}, text)));
  };
  const made = element("table", { class: "measured" },
    element("caption", {}, `MNIST, mean of ${rows[0].seeds} seeds, two cores. MACs: multiplications for one image. Source: ${source}`),
    element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)))),
    element("tbody", {}, ...rows.map(row)));
  return element("div", { class: "scrolled", tabindex: "0", role: "region", "aria-label": `Measured: ${rows.map(({ name }) => name).join(", ")}` }, made);
}

// `name` as code.
function coded(text) {
  return text.split("`").map((part, index) => (index % 2 ? element("code", {}, part) : part));
}
