// Arithmetic on pictures: strokes to pixels as MNIST was made, shifting, hiding a square.

const FINENESS = 8; // canvas pixels to a model's pixel and side; their mean is the model's pixel
const PEN = 0.085; // of the side: MNIST's strokes are two to three pixels of 28 wide

// MNIST's digits fit into 20×20 of 28×28 pixels and are moved so that their centre of mass is in the middle
// (LeCun, Cortes, Burges, "The MNIST database of handwritten digits").
export const BOX = 20 / 28;

export function strokesToPixels(strokes, side) {
  const pixels = new Uint8Array(side * side);
  const points = strokes.flat();
  if (!points.length) return pixels;
  const [left, right] = range(points.map(([x]) => x));
  const [top, bottom] = range(points.map(([, y]) => y));
  const longest = Math.max(right - left, bottom - top);
  const scale = longest > 0.02 ? (BOX - PEN) / longest : 1; // a dot stays one
  const middle = [(left + right) / 2, (top + bottom) / 2];
  const drawn = rasterize(
    strokes.map((stroke) => stroke.map(([x, y]) => [(x - middle[0]) * scale + 0.5, (y - middle[1]) * scale + 0.5])),
    side,
  );
  const [x, y] = centreOfMass(drawn, side);
  return shiftPixels(drawn, [side, side, 1], Math.round((side - 1) / 2 - x), Math.round((side - 1) / 2 - y));
}

export function drawStrokes(context, strokes, side, width) {
  context.lineWidth = width * side;
  context.lineCap = "round";
  context.lineJoin = "round";
  for (const stroke of strokes) {
    context.beginPath();
    context.moveTo(stroke[0][0] * side, stroke[0][1] * side);
    for (const [x, y] of stroke) context.lineTo(x * side, y * side); // a single point too: the round caps meet
    context.stroke();
  }
}

let sheet;

function rasterize(strokes, side) {
  const fine = side * FINENESS;
  if (sheet?.canvas.width !== fine) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = fine;
    sheet = canvas.getContext("2d", { willReadFrequently: true });
  }
  sheet.clearRect(0, 0, fine, fine);
  drawStrokes(sheet, strokes, fine, PEN);
  const { data } = sheet.getImageData(0, 0, fine, fine);
  const sums = new Float64Array(side * side);
  for (let y = 0; y < fine; y++) {
    const row = Math.floor(y / FINENESS) * side;
    for (let x = 0; x < fine; x++) sums[row + Math.floor(x / FINENESS)] += data[4 * (y * fine + x) + 3];
  }
  return Uint8Array.from(sums, (sum) => Math.round(sum / FINENESS ** 2));
}

function centreOfMass(pixels, side) {
  let mass = 0;
  let x = 0;
  let y = 0;
  pixels.forEach((value, index) => {
    mass += value;
    x += value * (index % side);
    y += value * Math.floor(index / side);
  });
  return [x / mass, y / mass];
}

function range(values) {
  return [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
}

export function shiftPixels(pixels, [height, width, channels], across, down) {
  if (!across && !down) return pixels;
  const shifted = new Uint8Array(pixels.length); // what comes in from outside is black
  for (let row = Math.max(0, down); row < Math.min(height, height + down); row++) {
    const first = Math.max(0, across);
    const count = width - Math.abs(across);
    const from = ((row - down) * width + first - across) * channels;
    shifted.set(pixels.subarray(from, from + count * channels), (row * width + first) * channels);
  }
  return shifted;
}

// Where squares are hidden, and the pictures with them hidden under the median colour of the picture's border, as
// occlusion.py hides them, in larger steps.
export function hidden(pixels, [height, width, channels]) {
  const side = Math.max(2, Math.round(Math.min(height, width) / 5));
  const step = Math.max(1, Math.ceil(Math.max(height, width) / 12));
  const places = [];
  for (let top = -Math.floor(side / 2); top < height - side / 2; top += step) {
    for (let left = -Math.floor(side / 2); left < width - side / 2; left += step) places.push([top, left]);
  }
  const border = [];
  for (let row = 0; row < height; row++) {
    const inside = row > 0 && row < height - 1;
    for (let column = 0; column < width; column += inside ? width - 1 : 1) border.push((row * width + column) * channels);
  }
  const fill = Array.from({ length: channels }, (_, channel) => median(border.map((place) => pixels[place + channel])));
  const picture = ([top, left]) => {
    const copy = pixels.slice();
    for (let row = Math.max(0, top); row < Math.min(height, top + side); row++) {
      for (let column = Math.max(0, left); column < Math.min(width, left + side); column++) {
        copy.set(fill, (row * width + column) * channels);
      }
    }
    return copy;
  };
  return { side, places, picture };
}

function median(values) {
  return values.sort((one, other) => one - other)[values.length >> 1];
}

// Shifts across and down, in equal steps up to two sevenths of the side: of 28 pixels, 8.
export function shifts([height, width]) {
  const offsets = Array.from({ length: 9 }, (_, index) => index - 4);
  const step = (side) => Math.max(1, Math.round(side / 14));
  return offsets.flatMap((down) => offsets.map((across) => [across * step(width), down * step(height)]));
}

export function paint(canvas, pixels, [height, width, channels], colour) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    const value = channels === 3 ? pixels.subarray(3 * i, 3 * i + 3) : [pixels[i], pixels[i], pixels[i]];
    image.data.set(colour ? [...colour, pixels[i]] : [...value, 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
}
