// Subject 9: the branches of an inception module on the picture, and what the reduction saves.

import { convolutionParameters, convolve, pool } from "./arithmetic.js";
import { preset } from "./convolution.js";
import { at, element, paintMap } from "./figures.js";

export function openInception() {
  const branches = [
    ["1×1 kernel: copies", (map) => convolve(map, [1], 1, "same")],
    ["3×3 kernel: outline", (map) => convolve(map, preset("outline", 3), 1, "same")],
    ["5×5 kernel: outline", (map) => convolve(map, preset("outline", 5), 1, "same")],
    ["3×3 max pooling, stride 1", (map) => pool(map, 3, "max", 1, "same")],
  ].map(([name, work]) => {
    const canvas = element("canvas", { role: "img", "aria-label": `Your picture after ${name}` });
    at("branches").append(element("figure", {}, canvas, element("figcaption", {}, name)));
    return { canvas, work };
  });
  at("inputs").addEventListener("input", count);
  count();

  return {
    show({ map }) {
      for (const { canvas, work } of branches) paintMap(canvas, work(map));
    },
  };
}

// The 5×5 branch of the ladder's module: 12 filters, behind 6 of 1×1.
function count() {
  const inputs = Number(at("inputs").value);
  const naive = convolutionParameters(5, inputs, 12);
  const reduced = convolutionParameters(1, inputs, 6) + convolutionParameters(5, 6, 12);
  const number = (value) => value.toLocaleString("en");
  at("inputs-shown").textContent = inputs;
  at("module-arithmetic").textContent = `A 5×5 branch with 12 filters has 5 · 5 · ${inputs} · 12 + 12 = ${number(naive)} parameters. With six 1×1 filters before it, it has 1 · 1 · ${inputs} · 6 + 6 + 5 · 5 · 6 · 12 + 12 = ${number(reduced)}.`;
}
