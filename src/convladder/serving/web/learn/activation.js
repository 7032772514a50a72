// Subject 4: what ReLU cuts off; logits to probabilities to loss.

import { crossEntropy, relu, softmax } from "./arithmetic.js";
import { at, element, format, numberInput, paintMap, percent, showNumber } from "./figures.js";
import { answer } from "./network.js";

export function openActivation(network) {
  let picture = null;
  let logits = new Array(10).fill(0);
  let label = 0;

  const rows = logits.map((_, index) => {
    const input = numberInput(`Logit of class ${index}`, 0.5, () => logits[index], (value) => {
      logits[index] = value;
      compute();
    });
    const power = element("td");
    const fill = element("span", { class: "fill" });
    const probability = element("span");
    const right = element("input", { type: "radio", name: "right", value: index, "aria-label": `${index} is the right class` });
    right.addEventListener("change", () => {
      label = index;
      compute();
    });
    const row = element("tr", {}, element("th", { scope: "row" }, `${index}`), element("td", {}, input), power,
      element("td", { class: "a" }, probability, element("span", { class: "track", "aria-hidden": "true" }, fill)), element("td", {}, right));
    return { row, input, power, probability, fill, right };
  });
  at("logits").replaceChildren(...rows.map(({ row }) => row));
  at("logits-again").addEventListener("click", again);

  function again() {
    ({ logits } = answer(network, picture.pixels));
    label = picture.label ?? logits.indexOf(Math.max(...logits));
    rows.forEach(({ input, right }, index) => {
      showNumber(input, logits[index]);
      right.checked = index === label;
    });
    compute();
  }

  function compute() {
    const probabilities = softmax(logits);
    rows.forEach(({ power, probability, fill }, index) => {
      power.textContent = short(Math.exp(logits[index]));
      probability.textContent = percent(probabilities[index], 2);
      fill.style.width = percent(probabilities[index], 2).replace(" ", "");
    });
    const top = probabilities.indexOf(Math.max(...probabilities));
    const loss = format(crossEntropy(probabilities, label), 3);
    const judged = top === label ? "The answer is right" : `The answer, ${top}, is wrong`;
    at("loss").textContent = `Loss = −ln ${format(probabilities[label], 4)} = ${loss}. ${judged}.`;
  }

  return {
    show(shown) {
      picture = shown;
      again();
    },
    showMap(map) {
      const peak = Math.max(...map.values.map(Math.abs), 1e-9);
      const cut = map.values.filter((value) => value < 0).length;
      paintMap(at("relu-input"), map, { peak });
      paintMap(at("relu-output"), { ...map, values: map.values.map(relu) }, { peak });
      const text = `After: ${cut} of ${map.values.length} values were below zero and are now zero`;
      at("relu-caption").textContent = text;
      at("relu-output").setAttribute("aria-label", text);
      at("relu-input").setAttribute("aria-label", `The feature map before ReLU; ${cut} values are below zero`);
    },
  };
}

function short(value) {
  return value >= 100_000 || (value > 0 && value < 0.001) ? value.toExponential(1).replace("-", "−") : format(value, value < 10 ? 3 : 0);
}
