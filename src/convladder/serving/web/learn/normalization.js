// Subject 7: the spread of a feature map's values before and after normalization.

import { normalize, spread } from "./arithmetic.js";
import { at, format, histogram } from "./figures.js";

const LIMIT = 6; // of the axis

export function openNormalization() {
  let values = [0];
  for (const id of ["scale", "offset"]) at(id).addEventListener("input", update);

  function update() {
    const [scale, offset] = [Number(at("scale").value), Number(at("offset").value)];
    at("scale-shown").textContent = format(scale, 1);
    at("offset-shown").textContent = format(offset, 1);
    show("before", values, "Before");
    show("after", normalize(values, scale, offset), "After");
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
