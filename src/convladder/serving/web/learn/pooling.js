// Subject 3: pooling, and what a shift by one pixel changes before and after it.

import { pool, sum, windowAt } from "./arithmetic.js";
import { at, follow, format, paintMap, percent } from "./figures.js";

const WORDS = { max: "The largest", average: "The average", min: "The smallest" };

export function openPooling(say) {
  let picture = null;
  let place = [5, 5]; // row and column of the pooled map

  for (const id of ["pooling-kind", "window", "step"]) at(id).addEventListener("change", update);
  const size = () => Number(at("window").value);
  const moveTo = (row, column, speak) => {
    place = [row, column];
    update();
    if (speak) say(at("window-arithmetic").textContent);
  };
  follow(
    at("pooling-input"),
    () => picture.map,
    (down, across) => moveTo(place[0] + down, place[1] + across, true),
    (row, column) => moveTo(Math.floor(row / size()), Math.floor(column / size())),
  );

  function update() {
    const kind = at("pooling-kind").value;
    const [across, down] = at("step").value.split(",").map(Number);
    const { map } = picture;
    const shifted = { ...map, values: Array.from(picture.shifted(across, down), (value) => value / 255) };
    const pooled = pool(map, size(), kind);
    const shiftedPooled = pool(shifted, size(), kind);
    place = place.map((value, axis) => Math.min([pooled.height, pooled.width][axis] - 1, Math.max(0, value)));
    const [row, column] = place;
    const frame = [row * size(), column * size(), size(), size()];
    paintMap(at("pooling-input"), map, { ink: true, peak: 1, frame });
    paintMap(at("pooling-shifted"), shifted, { ink: true, peak: 1, frame });
    paintMap(at("pooling-output"), pooled, { ink: true, peak: 1, frame: [row, column, 1, 1] });
    paintMap(at("pooling-shifted-output"), shiftedPooled, { ink: true, peak: 1, frame: [row, column, 1, 1] });
    at("pooling-caption").textContent = `Pooled: ${pooled.height}×${pooled.width}`;
    const window = windowAt(map, size(), size(), "valid", row, column);
    const numbers = window.map((value) => format(value)).join(", ");
    at("window-arithmetic").textContent = `${WORDS[kind]} of ${numbers} is ${format(pooled.values[row * pooled.width + column])}.`;
    at("pooling-input").setAttribute("aria-label", `The picture. Window in row ${row + 1}, column ${column + 1}. ${at("window-arithmetic").textContent}`);
    at("pooling-difference").textContent = across || down
      ? `Numbers: ${map.values.length} before, ${pooled.values.length} after. The shift changes the picture by ${percent(change(map, shifted))} of its ink, and the pooled map by ${percent(change(pooled, shiftedPooled))} of its own.`
      : `Numbers: ${map.values.length} before, ${pooled.values.length} after. Choose a shift to compare.`;
  }

  return {
    show(shown) {
      picture = shown;
      update();
    },
  };
}

// The sum of all differences, as a share of the sum of all values; 0 where there is nothing.
export function change(map, other) {
  const total = sum(map.values);
  return total ? sum(map.values.map((value, index) => Math.abs(value - other.values[index]))) / total : 0;
}
