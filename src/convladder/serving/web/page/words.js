// The page's sentences: for one network and for two, for drawings, files and test images.

const RESIZED = { crop: "cropped to the middle", pad: "padded with black", stretch: "stretched" };

export function lead(drawable, two) {
  const what = drawable ? "Draw, or show a picture" : "Show a picture";
  return `${what}: see what ${two ? "two networks make" : "the network makes"} of it, and how.`;
}

export function hint(drawable) {
  return drawable ? "Draw here\nor drop a picture" : "Drop or paste a picture here";
}

export function help(drawable) {
  return drawable
    ? "Mouse, finger or pen; or arrow keys to move and the space bar to put the pen down and up. Pictures can be dropped and pasted."
    : "Pictures can be dropped and pasted too.";
}

export function inputCaption([first, second]) {
  if (!second) return "As the network sees it";
  return first.fit === second.fit ? "As both networks see it" : `As ${first.name} sees it`;
}

// How what lies on the pad becomes the networks' input.
export function preparation(models, kind, drawable) {
  const [{ input_shape: [height, width, channels] }] = models;
  const size = `${width}×${height}`;
  if (kind === "example") return `A test image is shown as it was prepared for the test: ${size} pixels, ${colours(channels)}.`;
  const drawings = `Drawings are prepared as MNIST’s digits were: the longer side scaled to ${Math.round((20 / 28) * width)} pixels, the centre of mass moved to the middle of ${size}.`;
  if (kind === "strokes") return drawings;
  const alike = models.every((model) => model.fit === models[0].fit);
  const ways = alike
    ? `${RESIZED[models[0].fit]}, as for training`
    : models.map((model) => `for ${model.name} ${RESIZED[model.fit]}`).join(", ") + ", as for training";
  const pictures = `Pictures are resized to ${size} pixels, ${colours(channels)}; other proportions are ${ways}.`;
  return kind === "none" && drawable ? `${drawings} ${pictures}` : pictures;
}

export function colours(channels) {
  return channels === 1 ? "gray" : "in colour";
}

export function otherProportions(model) {
  return RESIZED[model.fit];
}

// What the thumbnails are: cross-validation has every image trained on by the network that answers here.
export function examplesNote(teller) {
  const trained = teller.account.tested_by
    ? `${teller.name} was trained on these images too, because it was tested by ${teller.account.tested_by}.`
    : `${teller.name} was not trained on these images.`;
  return teller.examples.misjudged.includes(true) ? `${trained} ✗ marks those that ${teller.name} got wrong.` : trained;
}
