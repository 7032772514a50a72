// A decoded picture to a model's size and channels, as Pillow does it: 8-bit bilinear, widened when it shrinks,
// which is antialiasing. Pillow's Resample.c is the source of the arithmetic; a test holds both to equal pixels.

const PRECISION = 22; // bits behind the point, as Pillow has for 8-bit pixels

export function fitPixels(image, [height, width, channels], fit) {
  const source = channels === 1 ? toGray(image) : dropAlpha(image);
  const size = [image.width, image.height];
  if (size[0] === width && size[1] === height) return source;
  if (fit === "stretch") return resample(source, size, channels, width, height, [0, 0, ...size]);
  if (fit === "crop") {
    const scale = Math.min(size[0] / width, size[1] / height);
    const left = (size[0] - scale * width) / 2;
    const top = (size[1] - scale * height) / 2;
    return resample(source, size, channels, width, height, [left, top, left + scale * width, top + scale * height]);
  }
  const scale = Math.max(size[0] / width, size[1] / height);
  const innerWidth = Math.max(1, roundHalfEven(size[0] / scale));
  const innerHeight = Math.max(1, roundHalfEven(size[1] / scale));
  const inner = resample(source, size, channels, innerWidth, innerHeight, [0, 0, ...size]);
  const padded = new Uint8Array(height * width * channels);
  const left = Math.floor((width - innerWidth) / 2);
  const top = Math.floor((height - innerHeight) / 2);
  for (let row = 0; row < innerHeight; row++) {
    const line = inner.subarray(row * innerWidth * channels, (row + 1) * innerWidth * channels);
    padded.set(line, ((top + row) * width + left) * channels);
  }
  return padded;
}

// 0.299 red + 0.587 green + 0.114 blue, in Pillow's 16-bit integers.
function toGray({ data }) {
  const gray = new Uint8Array(data.length / 4);
  for (let i = 0; i < gray.length; i++) {
    gray[i] = (data[4 * i] * 19595 + data[4 * i + 1] * 38470 + data[4 * i + 2] * 7471 + 0x8000) >> 16;
  }
  return gray;
}

function dropAlpha({ data }) {
  const colours = new Uint8Array((data.length / 4) * 3);
  for (let i = 0, j = 0; i < data.length; i += 4) {
    colours[j++] = data[i];
    colours[j++] = data[i + 1];
    colours[j++] = data[i + 2];
  }
  return colours;
}

function resample(source, [sourceWidth, sourceHeight], channels, width, height, [left, top, right, bottom]) {
  const across = weights(sourceWidth, left, right, width);
  const down = weights(sourceHeight, top, bottom, height);
  const between = pass(source, across, sourceHeight, width, (line, place) => (line * sourceWidth + place) * channels, channels,
    (line, out) => (line * width + out) * channels);
  return pass(between, down, width, height, (line, place) => (place * width + line) * channels, channels,
    (line, out) => (out * width + line) * channels);
}

function pass(source, taps, lines, outputs, from, channels, to) {
  const result = new Uint8Array(lines * outputs * channels);
  for (let out = 0; out < outputs; out++) {
    const { first, kernel } = taps[out];
    for (let line = 0; line < lines; line++) {
      for (let channel = 0; channel < channels; channel++) {
        let sum = 1 << (PRECISION - 1);
        for (let i = 0; i < kernel.length; i++) sum += source[from(line, first + i) + channel] * kernel[i];
        result[to(line, out) + channel] = Math.min(255, Math.max(0, sum >> PRECISION));
      }
    }
  }
  return result;
}

// For each output pixel, which source pixels it is made of and by what whole-number weights. Pillow keeps the ends in
// single precision, and so must this.
function weights(sourceSize, start, end, size) {
  const [low, high] = [Math.fround(start), Math.fround(end)];
  const scale = Math.fround(high - low) / size;
  const widened = Math.max(scale, 1);
  const narrowed = 1 / widened;
  return Array.from({ length: size }, (_, out) => {
    const centre = low + (out + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - widened + 0.5));
    const last = Math.min(sourceSize, Math.trunc(centre + widened + 0.5));
    const kernel = [];
    let total = 0;
    for (let place = 0; place < last - first; place++) {
      const weight = Math.max(0, 1 - Math.abs((place + first - centre + 0.5) * narrowed));
      kernel.push(weight);
      total += weight;
    }
    return { first, kernel: kernel.map((weight) => Math.trunc(0.5 + (weight / total) * (1 << PRECISION))) };
  });
}

function roundHalfEven(value) {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
