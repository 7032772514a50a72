// One feature map at a time, as large as the window allows. Escape closes a dialog by itself.

const KEYS = { ArrowLeft: -1, ArrowRight: 1 };

const at = (id) => document.getElementById(id);

export class Zoom {
  #dialog = at("zoom");
  #count = 0;
  #index = 0;
  #show;

  constructor() {
    at("zoom-previous").addEventListener("click", () => this.#step(-1));
    at("zoom-next").addEventListener("click", () => this.#step(1));
    at("zoom-close").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("click", (event) => event.target === this.#dialog && this.#dialog.close());
    this.#dialog.addEventListener("keydown", (event) => event.key in KEYS && this.#step(KEYS[event.key]));
  }

  // show(index, canvas) paints a map, and returns its title and what there is to say of it
  open(index, count, show) {
    this.#index = index;
    this.#count = count;
    this.#show = show;
    this.#step(0);
    this.#dialog.showModal();
  }

  #step(by) {
    this.#index = (this.#index + by + this.#count) % this.#count;
    const { title, note } = this.#show(this.#index, at("zoom-map"));
    at("zoom-title").textContent = title;
    at("zoom-note").textContent = note;
    for (const id of ["zoom-previous", "zoom-next"]) at(id).hidden = this.#count === 1;
  }
}
