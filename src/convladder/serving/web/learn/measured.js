// What the ladder measured, from ladder.json, at the end of each subject.

import { element, percent, table } from "./figures.js";

const HEAD = ["Rung", "Test accuracy", "95 % interval", "Parameters", "MACs", "Seconds of training"];
const IN_THE_ARTICLE = { linear_head: "no hidden layers", inception: "reduced inception" }; // where the names differ

export function showMeasured({ source, models, pairs, claims, shifts }) {
  const all = (name) => document.querySelectorAll(`[data-${name}]`);
  for (const place of all("models")) {
    const names = place.dataset.models.split(" ");
    place.replaceChildren(ladder(names.map((name) => models.find((model) => model.name === name)), source));
  }
  for (const place of all("pair")) {
    const { words } = pairs.find(({ upper }) => upper === place.dataset.pair);
    place.replaceChildren(...coded(`${words}. In brackets: the 95 % interval.`));
  }
  for (const place of all("claim")) {
    const { claim, measured, verdict } = claims.find((one) => one.claim.startsWith(place.dataset.claim));
    place.textContent = `The article says: “${claim}.” Measured, trained as in the article: ${measured.replaceAll(/-(?=\d)/g, "−")}. Verdict: ${verdict}.`;
  }
  for (const place of all("shifts")) {
    const said = place.dataset.shifts.split(" ").map((name) => {
      const accuracies = shifts[IN_THE_ARTICLE[name] ?? name];
      return `${name} ${percent(accuracies[0], 1)} and ${percent(accuracies[4], 1)}`;
    });
    place.textContent = `Accuracy on MNIST’s test images as they are, and shifted by 4 pixels, trained as in the article: ${said.join("; ")}.`;
  }
}

function ladder(rows, source) {
  const row = ({ name, test_accuracy, low, high, parameters, macs, fit_seconds }) => {
    const cells = [
      percent(test_accuracy, 2), `${percent(low, 2).replace(" %", "")} to ${percent(high, 2)}`,
      parameters.toLocaleString("en"), macs.toLocaleString("en"), fit_seconds.toFixed(1),
    ];
    const heading = element("th", { scope: "row" }, element("code", {}, name));
    return element("tr", {}, heading, ...cells.map((text) => element("td", {}, text)));
  };
  const names = rows.map(({ name }) => name).join(", ");
  return table(`Measured: ${names}. MNIST, mean of ${rows[0].seeds} seeds, two cores. MACs: multiplications for one image. Source: ${source}`, HEAD, rows.map(row));
}

// `name` as code.
function coded(text) {
  return text.split("`").map((part, index) => (index % 2 ? element("code", {}, part) : part));
}
