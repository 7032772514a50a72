// Which rung is looked into, and which images a cell of its confusion matrix stands for.
const data = JSON.parse(document.getElementById("data-of-page").textContent);
const choice = document.getElementById("choice");

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const percent = (value) => `${(100 * value).toFixed(1)} %`;

function show(button) {
  const view = button.closest(".view");
  const [label, taken] = button.dataset.cell.split(",").map(Number);
  for (const other of view.querySelectorAll("button[data-cell]")) {
    other.setAttribute("aria-pressed", String(other === button));
    other.tabIndex = other === button ? 0 : -1;
  }
  const found = data.cells[view.dataset.rung][button.dataset.cell] ?? [];
  const count = Number(button.dataset.count);
  const least = label === taken ? "least sure" : "surest";
  const some = found.length ? ` The ${least} ${found.length} of them:` : " This file has no pictures of them.";
  const list = document.createElement("ul");
  for (const [number, top] of found) {
    const item = document.createElement("li");
    const said = top.map(([named, probability]) => `${data.classes[named]} ${percent(probability)}`).join(", ");
    item.append(element("img", "", { src: data.pictures[number], alt: `Test image ${number}: ${data.classes[label]}. Answer: ${said}` }));
    const chances = element("ul", "", { class: "chances" });
    for (const [named, probability] of top) {
      const line = document.createElement("li");
      line.append(element("span", data.classes[named]), element("span", percent(probability)));
      chances.append(line);
    }
    item.append(chances);
    list.append(item);
  }
  view.querySelector(".found").replaceChildren(element("p", `${button.getAttribute("aria-label")}.${found.length === count ? "" : some}`), list);
}

function choose(number) {
  for (const view of document.querySelectorAll(".view")) view.hidden = view.dataset.rung !== number;
  if (choice) for (const name of document.querySelectorAll(".chosen-name")) name.textContent = choice.selectedOptions[0].text;
  for (const drawn of document.querySelectorAll(".rung")) drawn.classList.toggle("chosen", drawn.classList.contains(`rung-${number}`));
}

// An arrow key goes to the next cell that way that has images in it.
const WAYS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

function move(event) {
  const from = event.target.closest("button[data-cell]");
  const [down, right] = WAYS[event.key] ?? [];
  if (!from || down === undefined) return;
  event.preventDefault();
  const rows = [...from.closest("tbody").rows];
  let row = rows.indexOf(from.closest("tr")) + down;
  let column = from.closest("td").cellIndex + right;
  while (rows[row]?.cells[column]) {
    const next = rows[row].cells[column].querySelector("button");
    if (next) {
      from.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
      return;
    }
    row += down;
    column += right;
  }
}

document.addEventListener("keydown", move);
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-cell]");
  if (button) show(button);
});
choice?.addEventListener("change", () => choose(choice.value));
choose(choice?.value ?? "0");

// Each view begins with its commonest confusion, so that there is something to see, on paper too.
for (const view of document.querySelectorAll(".view")) {
  const buttons = [...view.querySelectorAll("button[data-cell]")];
  const wrong = buttons.filter((button) => new Set(button.dataset.cell.split(",")).size === 2);
  const first = wrong.sort((one, other) => other.dataset.count - one.dataset.count)[0] ?? buttons[0];
  if (first) show(first);
}

// On paper nothing can be opened.
const opened = [];
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not([open])")) {
    details.open = true;
    opened.push(details);
  }
});
addEventListener("afterprint", () => {
  while (opened.length) opened.pop().open = false;
});
