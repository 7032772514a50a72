// The player of a film: filters that form, answers that turn right, the curves. The page, the lesson and the report use
// it. The report holds it as text, so it imports nothing. runs/film.py makes what it is given.

const PACE = 180; // milliseconds a moment
const TILE = 36; // canvas pixels a filter or a map, about
const CHART = { width: 420, height: 190, left: 46, right: 10, top: 12, bottom: 30 };
const SVG = "http://www.w3.org/2000/svg";

// Show a film in an element. Gives back a function that shows a newer state of the same film, as it grows.
export async function showFilm(box, film) {
  const player = new Player(box, await unpacked(film));
  return async (newer) => player.replace(await unpacked(newer));
}

async function unpacked(film) {
  const [images, filters, maps] = await Promise.all([film.images, film.filters, film.maps].map(unpack));
  return { ...film, images, filters, maps };
}

async function unpack(packed) {
  if (!packed) return null;
  const bytes = Uint8Array.from(atob(packed.values), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return { ...packed, values: new Uint8Array(await new Response(stream).arrayBuffer()) };
}

// At which moments answers turned: {image, moment, right}.
export function turns({ answers, labels }) {
  const found = [];
  for (let moment = 1; moment < answers.length; moment++) {
    labels.forEach((label, image) => {
      const [before, now] = [answers[moment - 1][image] === label, answers[moment][image] === label];
      if (before !== now) found.push({ image, moment, right: now });
    });
  }
  return found;
}

class Player {
  #box;
  #film;
  #moment = 0;
  #timer = null;
  #parts = {};

  constructor(box, film) {
    this.#box = box;
    this.#film = film;
    this.#build();
    this.#draw();
    this.#show(film.steps.length - 1);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.#draw();
      this.#show(this.#moment);
    });
  }

  replace(film) {
    const atEnd = this.#moment === this.#film.steps.length - 1;
    this.#film = film;
    this.#draw();
    this.#show(atEnd ? film.steps.length - 1 : Math.min(this.#moment, film.steps.length - 1));
  }

  #build() {
    const film = this.#film;
    const still = matchMedia("(prefers-reduced-motion: reduce)");
    const play = element("button", { type: "button", class: "film-play" });
    const slider = element("input", { type: "range", min: "0", step: "1", "aria-label": "Moment of the training" });
    const marks = drawn("svg", { class: "film-marks", "aria-hidden": "true", preserveAspectRatio: "none", viewBox: "0 0 1000 24" });
    const moment = element("p", { class: "film-moment" });
    const figure = (name, made) => {
      const caption = element("figcaption");
      return { made, caption, whole: element("figure", { class: `film-${name}` }, made, caption) };
    };
    const canvas = () => element("canvas", { role: "img" });
    const filters = film.filters && figure("filters", canvas());
    const maps = film.maps && Array.from({ length: film.maps.shape[1] }, () => figure("map", canvas()));
    const images = film.labels.map((label, image) => {
      const thumbnail = canvas();
      this.#paintImage(thumbnail, image);
      thumbnail.setAttribute("aria-label", `Test image ${image + 1}: ${film.class_names[label]}`);
      const said = element("span", { class: "film-said" });
      const since = element("span", { class: "film-since" });
      return { said, since, item: element("li", {}, thumbnail, said, since) };
    });
    const charts = { loss: figure("chart", element("div")), accuracy: figure("chart", element("div")) };
    const words = element("p", { class: "film-words" });
    const none = film.filters || film.maps ? "" : "The network has no first filters that could be shown.";
    this.#box.classList.add("film");
    this.#box.replaceChildren(
      element("div", { class: "film-controls" }, play, element("div", { class: "film-line" }, marks, slider)),
      moment,
      element("p", { class: "film-note" }, "On the time line: up, an answer turned right; down, it turned wrong."),
      element("div", { class: "film-parts" }, ...(filters ? [filters.whole] : []), ...(maps ?? []).map(({ whole }) => whole), none),
      element("ul", { class: "film-answers", "aria-label": "Answers for test images that were not trained on" }, ...images.map(({ item }) => item)),
      element("div", { class: "film-charts" }, charts.loss.whole, charts.accuracy.whole),
      words,
    );
    this.#parts = { play, slider, marks, moment, filters, maps, images, charts, words, still };
    slider.addEventListener("input", () => {
      this.#stop();
      this.#show(Number(slider.value));
    });
    slider.addEventListener("keydown", (event) => {
      if (event.key !== " ") return;
      event.preventDefault();
      this.#toggle();
    });
    play.addEventListener("click", () => this.#toggle());
    this.#stop();
  }

  // Where less motion is wished for, the button goes one moment on.
  #toggle() {
    const next = () => (this.#moment + 1) % this.#film.steps.length;
    if (this.#parts.still.matches) {
      this.#show(next());
    } else if (this.#timer) {
      this.#stop();
    } else {
      this.#show(next());
      this.#timer = setInterval(() => {
        if (!this.#box.isConnected || next() === 0) this.#stop();
        else this.#show(next());
      }, PACE);
      this.#parts.play.textContent = "Pause";
    }
  }

  #stop() {
    clearInterval(this.#timer);
    this.#timer = null;
    this.#parts.play.textContent = this.#parts.still.matches ? "Next moment" : "Play";
  }

  // What is the same at all moments: marks, curves, words.
  #draw() {
    const { slider, marks, images, charts, words } = this.#parts;
    const film = this.#film;
    const last = film.steps.length - 1;
    slider.max = `${last}`;
    const across = (moment) => (1000 * moment) / Math.max(1, last);
    const turned = turns(film);
    marks.replaceChildren(...turned.map(({ moment, right }) => drawn("line", {
      class: right ? "right" : "wrong", x1: across(moment), x2: across(moment), y1: 12, y2: right ? 2 : 22,
    })));
    if (film.overfit) {
      const moment = film.steps.findIndex((step) => step >= film.overfit.step);
      marks.append(drawn("line", { class: "overfit", x1: across(moment), x2: across(moment), y1: 0, y2: 24 }));
    }
    images.forEach(({ since }, image) => {
      since.textContent = lastTurn(film, image, turned.filter((turn) => turn.image === image).at(-1));
    });
    const loss = [...film.loss, ...film.validation.loss].filter((value) => value !== null);
    this.#chart(charts.loss, "loss", 0, Math.max(...loss, 0.01));
    this.#chart(charts.accuracy, "accuracy", 0, 1);
    words.textContent = overfitting(film);
  }

  #chart({ made, caption }, name, low, high) {
    const film = this.#film;
    const end = Math.max(1, film.steps.at(-1));
    const x = (step) => CHART.left + (step / end) * (CHART.width - CHART.left - CHART.right);
    const y = (value) => CHART.height - CHART.bottom - ((value - low) / (high - low)) * (CHART.height - CHART.top - CHART.bottom);
    const label = (value) => (name === "accuracy" ? percent(value) : number(value));
    const svg = drawn("svg", { viewBox: `0 0 ${CHART.width} ${CHART.height}`, role: "img" });
    for (const value of [low, (low + high) / 2, high]) {
      svg.append(
        drawn("line", { class: "grid", x1: CHART.left, x2: CHART.width - CHART.right, y1: y(value), y2: y(value) }),
        drawn("text", { x: CHART.left - 6, y: y(value) + 4, "text-anchor": "end" }, label(value)),
      );
    }
    const foot = CHART.height - 8;
    svg.append(
      drawn("text", { x: CHART.left, y: foot }, "start"),
      drawn("text", { x: CHART.width - CHART.right, y: foot, "text-anchor": "end" }, `epoch ${number(film.epoch.at(-1), 1)}`),
    );
    const curve = (steps, values, kind) => {
      const known = steps.map((step, index) => [step, values[index]]).filter(([, value]) => value !== null);
      const points = known.map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
      svg.append(drawn("polyline", { class: `curve ${kind}`, points }));
      if (kind === "validation") known.forEach(([step, value]) => svg.append(drawn("circle", { class: "dot", cx: x(step), cy: y(value), r: 2.5 })));
    };
    curve(film.steps, film[name], "training");
    curve(film.validation.steps, film.validation[name], "validation");
    if (name === "loss" && film.overfit) {
      svg.append(
        drawn("line", { class: "overfit", x1: x(film.overfit.step), x2: x(film.overfit.step), y1: CHART.top, y2: CHART.height - CHART.bottom }),
        drawn("circle", { class: "overfit", cx: x(film.overfit.step), cy: y(film.overfit.loss), r: 6 }),
      );
    }
    const now = drawn("line", { class: "now", y1: CHART.top, y2: CHART.height - CHART.bottom });
    svg.append(now);
    made.x = x;
    made.now = now;
    made.replaceChildren(svg);
    const validated = film.validation.steps.length > 0;
    caption.textContent = `${name === "loss" ? "Loss" : "Accuracy"}: training images, the line${validated ? "; validation images, dashed" : ""}.`;
    const ends = (values) => values.findLast((value) => value !== null) ?? null;
    const told = [["training", ends(film[name])], ["validation", ends(film.validation[name])]].filter(([, value]) => value !== null);
    svg.setAttribute("aria-label", `${caption.textContent} At the end: ${told.map(([images, value]) => `${images} ${label(value)}`).join(", ") || "not known"}.`);
  }

  #show(moment) {
    this.#moment = moment;
    const film = this.#film;
    const { slider, images, charts, filters, maps } = this.#parts;
    const right = film.labels.filter((label, image) => film.answers[moment][image] === label).length;
    const [loss, accuracy] = [film.loss[moment], film.accuracy[moment]];
    const trained = accuracy === null ? "" : ` Training accuracy ${percent(accuracy)}, loss ${number(loss)}.`;
    const when = moment === 0 ? "Before the first step" : `Epoch ${number(film.epoch[moment])}, step ${film.steps[moment].toLocaleString("en")}`;
    const said = `${when}: ${right} of ${film.labels.length} test images right.${trained}`;
    slider.value = `${moment}`;
    slider.setAttribute("aria-valuetext", said);
    this.#parts.moment.textContent = said;
    images.forEach(({ said: text, item }, image) => {
      const answer = film.answers[moment][image];
      const correct = answer === film.labels[image];
      item.className = correct ? "right" : "wrong";
      text.textContent = `${correct ? "✓" : "✗"} ${film.class_names[answer]}, ${percent(film.sure[moment][image])}`;
    });
    for (const { made } of Object.values(charts)) {
      for (const end of ["x1", "x2"]) made.now.setAttribute(end, made.x(film.steps[moment]));
    }
    if (filters) this.#showFilters(filters, moment);
    maps?.forEach((figure, image) => this.#showMaps(figure, image, moment));
  }

  #showFilters({ made, caption }, moment) {
    const { shape: [, count, height, width, channels], values, peaks, of } = this.#film.filters;
    const scale = peaks[moment] / Math.max(...peaks, 1e-9) / 127; // one scale for all moments, so that they can grow
    const size = count * height * width * channels;
    const colour = palette(this.#box);
    paintTiles(made, count, height, width, colour, (tile, place) => {
      const at = moment * size + (tile * height * width + place) * channels;
      const weights = Array.from({ length: channels }, (_, channel) => signed(values[at + channel]) * scale);
      return channels === 3 ? weights.map((weight) => Math.round(128 + 127 * weight)) : mix(colour, weights[0]);
    });
    const some = count < of ? `The first ${count} of ${of}` : `All ${count}`;
    caption.textContent = `${some} filters of the first layer, ${height}×${width}. Largest weight: ${number(peaks[moment])}.`;
    made.setAttribute("aria-label", caption.textContent);
  }

  #showMaps({ made, caption }, image, moment) {
    const { shape: [, images, count, rows, columns], values, peaks } = this.#film.maps;
    const size = count * rows * columns;
    const colour = palette(this.#box);
    paintTiles(made, count, rows, columns, colour, (tile, place) => {
      const value = signed(values[(moment * images + image) * size + tile * rows * columns + place]) / 127;
      return mix(colour, value);
    });
    const name = this.#film.class_names[this.#film.labels[image]];
    caption.textContent = `What the first ${count} filters make of test image ${image + 1}, ${name}. Strongest value: ${number(peaks[moment])}.`;
    made.setAttribute("aria-label", caption.textContent);
  }

  #paintImage(canvas, image) {
    const { shape: [, height, width, channels], values } = this.#film.images;
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(width, height);
    for (let place = 0; place < height * width; place++) {
      const at = (image * height * width + place) * channels;
      for (let part = 0; part < 3; part++) pixels.data[4 * place + part] = values[at + (channels === 3 ? part : 0)];
      pixels.data[4 * place + 3] = 255;
    }
    context.putImageData(pixels, 0, 0);
  }
}

// Tiles in rows of eight. colourOf(tile, place) is red, green and blue.
function paintTiles(canvas, count, height, width, { line }, colourOf) {
  const zoom = Math.max(1, Math.round(TILE / Math.max(height, width)));
  const across = Math.min(8, count);
  const [wide, high] = [width * zoom + 3, height * zoom + 3];
  canvas.width = across * wide - 3;
  canvas.height = Math.ceil(count / across) * high - 3;
  const context = canvas.getContext("2d");
  context.fillStyle = `rgb(${line})`;
  context.fillRect(0, 0, canvas.width, canvas.height);
  for (let tile = 0; tile < count; tile++) {
    const [left, top] = [(tile % across) * wide, Math.floor(tile / across) * high];
    for (let place = 0; place < height * width; place++) {
      context.fillStyle = `rgb(${colourOf(tile, place)})`;
      context.fillRect(left + (place % width) * zoom, top + Math.floor(place / width) * zoom, zoom, zoom);
    }
  }
}

function lastTurn({ answers, labels, epoch }, image, turn) {
  const right = answers.at(-1)[image] === labels[image];
  if (!turn) return right ? "right from the start" : "never right";
  return `${right ? "right" : "wrong"} from epoch ${number(epoch[turn.moment])} on`;
}

function overfitting({ overfit, validation, running }) {
  if (overfit) {
    return `Overfitting: the validation loss was lowest after epoch ${overfit.epoch}, ${number(overfit.loss)}. Then it rose to `
      + `${number(overfit.last)}, while the training loss went on falling. The dashed upright line marks that moment.`;
  }
  if (validation.steps.length < 3) return running ? "" : "Too few validation scores to tell where overfitting begins.";
  return "No overfitting seen: the validation loss did not rise by 5 % and stay there.";
}

function palette(box) {
  const style = getComputedStyle(box);
  const read = (name) => {
    const digits = style.getPropertyValue(`--film-${name}`).trim().slice(1);
    return (digits.length === 3 ? [...digits].map((digit) => digit + digit) : digits.match(/../g)).map((part) => parseInt(part, 16));
  };
  return { ground: read("ground"), above: read("above"), below: read("below"), line: read("line") };
}

// From −1 to 1: the further from zero, the stronger the colour.
function mix({ ground, above, below }, value) {
  const towards = value < 0 ? below : above;
  const share = Math.min(1, Math.abs(value));
  return ground.map((part, place) => Math.round(part + (towards[place] - part) * share));
}

function signed(byte) {
  return byte > 127 ? byte - 256 : byte;
}

function percent(share) {
  const shown = 100 * share;
  return `${shown > 99 && shown < 100 ? shown.toFixed(1) : Math.round(shown)} %`;
}

function number(value, decimals = 2) {
  return value === null ? "not a number" : value.toLocaleString("en", { maximumFractionDigits: decimals });
}

export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
