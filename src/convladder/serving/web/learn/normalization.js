// Subject 7: the spread of a feature map's values before and after normalization.

import { normalize, spread } from "./arithmetic.js";
import { at, format, histogram } from "./figures.js";

const LIMIT = 6; // of the axis
const SLIDERS = ["times", "scale", "offset"];

export function openNormalization() {
  let values = [0];
  for (const id of SLIDERS) at(id).addEventListener("input", update);

  function update() {
    const [times, scale, offset] = SLIDERS.map((id) => Number(at(id).value));
    for (const id of SLIDERS) at(`${id}-shown`).textContent = format(Number(at(id).value), 1);
    const before = values.map((value) => value * times);
    show("before", before, "Before");
    show("after", normalize(before, scale, offset), "After");
  }

  return {
    showMap(map) {
      ({ values } = map);
      update();
    },
  };
}

function show(id, values, name) {
  const { mean, variance } = spread(values);
  const text = `${name}: mean ${format(mean)}, standard deviation ${format(Math.sqrt(variance))}. The axis goes from −${LIMIT} to ${LIMIT}.`;
  at(`spread-${id}`).replaceChildren(histogram(values, -LIMIT, LIMIT));
  at(`spread-${id}`).setAttribute("aria-label", `How often each value occurs. ${text}`);
  at(`spread-${id}-caption`).textContent = text;
}
