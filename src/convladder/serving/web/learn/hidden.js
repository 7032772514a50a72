// Subject 8: what each place adds to a logit, where the last layer reads the feature maps without a hidden layer.

import { sum } from "./arithmetic.js";
import { at, element, format, paintMap } from "./figures.js";
import { answer, evidence } from "./network.js";

export function openHidden(network) {
  let picture = null;
  at("evidence-class").replaceChildren(...Array.from({ length: 10 }, (_, label) => element("option", {}, `${label}`)));
  at("evidence-class").addEventListener("change", update);

  function update() {
    const label = Number(at("evidence-class").value);
    const { map, bias } = evidence(network, picture.pixels, label);
    paintMap(at("evidence-picture"), picture.map, { ink: true, peak: 1 });
    paintMap(at("evidence"), map);
    const text = `Sum of the ${map.values.length} values ${format(sum(map.values))}, plus bias ${format(bias)}: the logit of ${label} is ${format(sum(map.values) + bias)}.`;
    at("evidence-sum").textContent = text;
    at("evidence").setAttribute("aria-label", `What each of ${map.height} by ${map.width} places adds to the logit of ${label}. ${text}`);
  }

  return {
    show(shown) {
      picture = shown;
      const { logits } = answer(network, picture.pixels);
      at("evidence-class").value = logits.indexOf(Math.max(...logits));
      update();
    },
  };
}
