// The drawing pad: mouse, finger, pen and keyboard to strokes, lists of points with x and y from 0 to 1.

import { drawStrokes, paint } from "./picture.js";

const WIDTH = 0.07; // of the pen, of the pad's side
const SIDE = 560; // canvas pixels
const STEP = 1 / 20; // of the cursor that the arrow keys move
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Pad {
  #canvas;
  #context;
  #changed;
  #shift;
  #say;
  #stroke = null; // the one that is being drawn
  #cursor = [0.5, 0.5];
  #pen = false; // whether the keyboard's pen is down
  #keyboard = false;
  #shown = null; // what lies on the pad instead of strokes: a bitmap, or [pixels, shape]
  #what; // the name of that

  strokes = [];
  drawable = false;

  // changed(time of the event), shift([across, down]) and say(text) are called
  constructor(canvas, { changed, shift, say }) {
    this.#canvas = canvas;
    canvas.width = canvas.height = SIDE;
    this.#context = canvas.getContext("2d");
    this.#changed = changed;
    this.#shift = shift;
    this.#say = say;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (this.#stroke = null));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#liftPen());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  show(picture, what = "a picture") {
    this.#shown = picture;
    this.#what = what;
    this.strokes = [];
    this.#pen = false;
    this.draw();
  }

  undo(time) {
    this.strokes.pop();
    this.#pen = false;
    this.draw();
    this.#changed(time);
  }

  clear(time) {
    this.show(null);
    this.#changed(time);
  }

  draw() {
    const style = getComputedStyle(this.#canvas);
    const context = this.#context;
    context.clearRect(0, 0, SIDE, SIDE);
    context.strokeStyle = style.color;
    if (Array.isArray(this.#shown)) this.#drawPixels(style.color);
    else if (this.#shown) this.#drawBitmap();
    drawStrokes(context, this.strokes, SIDE, WIDTH);
    if (this.#keyboard && this.drawable) this.#drawCursor(style.getPropertyValue("--second"));
    this.#canvas.setAttribute("aria-label", `${this.drawable ? "Drawing pad" : "Picture"}, ${this.#description()}`);
  }

  #down(event) {
    if (!this.drawable || event.button !== 0) return;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#keyboard = false;
    this.#begin(this.#place(event));
    this.draw();
    this.#changed(event.timeStamp);
  }

  #move(event) {
    if (!this.#stroke) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) this.#stroke.push(this.#place(each));
    this.draw();
    this.#changed(event.timeStamp);
  }

  #key(event) {
    const arrow = ARROWS[event.key];
    if (event.ctrlKey || event.altKey || event.metaKey) {
      if (event.key === "z" && this.strokes.length) this.undo(event.timeStamp);
      return;
    }
    if (arrow && event.shiftKey) this.#shift(arrow);
    else if (!this.drawable) return;
    else if (arrow) this.#step(arrow, event.timeStamp);
    else if (event.key === " ") this.#togglePen(event);
    else if (event.key === "Delete" || event.key === "Backspace") this.clear(event.timeStamp);
    else if (event.key === "Escape") this.#liftPen();
    else return;
    event.preventDefault();
  }

  #step([across, down], time) {
    this.#keyboard = true;
    const within = (value) => Math.min(1 - STEP, Math.max(STEP, value));
    this.#cursor = [within(this.#cursor[0] + across * STEP), within(this.#cursor[1] + down * STEP)];
    if (this.#pen) this.strokes.at(-1).push([...this.#cursor]);
    this.draw();
    if (this.#pen) this.#changed(time);
  }

  #togglePen(event) {
    if (event.repeat) return;
    this.#keyboard = true;
    if (this.#pen) return this.#liftPen();
    this.#begin([...this.#cursor]);
    this.#stroke = null; // the mouse does not go on with it
    this.#pen = true;
    const [x, y] = this.#cursor.map((value) => Math.round(value / STEP));
    this.#say(`Pen down at column ${x}, row ${y} of 20.`);
    this.draw();
    this.#changed(event.timeStamp);
  }

  #liftPen() {
    if (this.#pen) this.#say("Pen up.");
    this.#pen = false;
    this.draw();
  }

  #begin(point) {
    if (this.#shown) this.show(null);
    this.#pen = false;
    this.#stroke = [point];
    this.strokes.push(this.#stroke);
  }

  #place(event) {
    const box = this.#canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  #drawPixels(ink) {
    const [pixels, shape] = this.#shown;
    const small = document.createElement("canvas");
    // A gray picture lies there in ink on paper, as a drawing does.
    paint(small, pixels, shape, shape[2] === 1 ? ink.match(/\d+/g).slice(0, 3).map(Number) : undefined);
    this.#context.imageSmoothingEnabled = false;
    this.#context.drawImage(small, 0, 0, SIDE, SIDE);
  }

  #drawBitmap() {
    const { width, height } = this.#shown;
    const scale = SIDE / Math.max(width, height);
    this.#context.imageSmoothingEnabled = true;
    this.#context.drawImage(
      this.#shown, (SIDE - width * scale) / 2, (SIDE - height * scale) / 2, width * scale, height * scale);
  }

  #drawCursor(colour) {
    const context = this.#context;
    context.save();
    context.strokeStyle = colour;
    context.lineWidth = 4;
    context.beginPath();
    context.arc(this.#cursor[0] * SIDE, this.#cursor[1] * SIDE, this.#pen ? 12 : 20, 0, 2 * Math.PI);
    context.stroke();
    context.restore();
  }

  #description() {
    if (this.#shown) return this.#what;
    const points = this.strokes.flat();
    if (!points.length) return "empty";
    const span = (axis) => {
      const values = points.map((point) => Math.round(point[axis] / STEP));
      return `${Math.min(...values)} to ${Math.max(...values)}`;
    };
    const strokes = this.strokes.length === 1 ? "one stroke" : `${this.strokes.length} strokes`;
    return `${strokes}, columns ${span(0)} and rows ${span(1)} of 20`;
  }
}
