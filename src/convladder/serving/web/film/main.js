// The page of films: a run is chosen; while it trains, its film is asked for again and again.

import { showFilm } from "./player.js";

const PAUSE = 2000; // milliseconds between two looks at a training
const QUIET = 60; // seconds without a new moment that are worth a word

const at = (id) => document.getElementById(id);

let films = [];
let grow = null; // shows a newer state of the film that is shown
let timer = null;
let chosen = 0; // counts choices: what was asked for before the last one is dropped

start();

async function start() {
  at("run").addEventListener("change", () => choose());
  await during(list());
  at("choice").hidden = films.length < 2;
  choose();
}

async function list() {
  films = (await read("films.json")).films;
  const current = at("run").value;
  at("run").replaceChildren(...films.map(({ name }) => {
    const option = document.createElement("option");
    option.textContent = name;
    return option;
  }));
  if (films.some(({ name }) => name === current)) at("run").value = current;
}

function choose() {
  chosen++;
  clearTimeout(timer);
  grow = null;
  at("film").replaceChildren();
  at("run-title").textContent = at("run").value || "No run";
  return during(look(chosen));
}

async function look(mine) {
  const entry = films.find(({ name }) => name === at("run").value);
  if (!entry) {
    at("state").textContent = "No run is served here. Give a run folder: convladder serve RUN, or convladder watch RUN.";
    return;
  }
  let running = entry.running;
  try {
    if (entry.file) {
      const film = await read(entry.file);
      if (mine !== chosen) return;
      running = film.running;
      if (grow) await grow(film);
      else grow = await showFilm(at("film"), film);
      at("state").textContent = state(film);
    } else {
      at("state").textContent = entry.why;
    }
  } finally {  // also after a failure, which may pass
    if (running && mine === chosen) {
      timer = setTimeout(() => during(entry.file ? look(mine) : list().then(() => look(mine))), PAUSE);
    }
  }
}

function state({ running, age }) {
  if (!running) return "";
  return age < QUIET
    ? "It trains. New moments appear by themselves."
    : `The last moment was filmed ${Math.round(age / 60)} min ago. The run is still called running: it takes long steps, or it was ended.`;
}

async function read(name) {
  const response = await fetch(new URL(name, import.meta.url), { cache: "no-store" });
  if (response.ok) return response.json();
  throw new Error(`${name}: ${response.status} ${response.statusText}`);
}

// Wait for what is under way, and tell of it where it fails. The body's data-busy is for those who watch.
async function during(work) {
  document.body.dataset.busy = true;
  try {
    await work;
    at("problem").hidden = true;
  } catch (error) {
    at("problem").textContent = error.message;
    at("problem").hidden = false;
  } finally {
    document.body.dataset.busy = false;
  }
}
