// The server that this page came from does the arithmetic; pixels go there, numbers come back, nothing is kept.

export class Engine {
  async decode(model, file) {
    return new Uint8Array(await post(`decode/${encodeURIComponent(model.name)}`, file));
  }

  async answer(model, pixels, { count = 1, maps = false } = {}) {
    const answered = await post(`look/${encodeURIComponent(model.name)}?maps=${maps ? 1 : 0}`, pixels);
    // float32 probabilities and familiarities, then a float32 peak a stage, then int8 maps, in the order of models.json
    const classes = model.class_names.length;
    const probabilities = new Float32Array(answered, 0, count * classes);
    const familiarity = new Float32Array(answered, 4 * count * classes, count);
    if (!maps) return { probabilities, familiarity };
    const peaks = new Float32Array(answered, 4 * count * (classes + 1), model.stages.length);
    let offset = 4 * (count * (classes + 1) + model.stages.length);
    const stages = model.stages.map((stage, index) => {
      const size = stage.channels * stage.rows * stage.columns;
      const values = new Int8Array(answered, offset, size);
      offset += size;
      return { values, peak: peaks[index] };
    });
    return { probabilities, familiarity, maps: stages };
  }
}

async function post(path, body) {
  const response = await fetch(new URL(`../${path}`, import.meta.url), {
    method: "POST",
    headers: { "Content-Type": "application/octet-stream" },
    body,
  });
  if (response.ok) return response.arrayBuffer();
  throw new Error(await reason(response));
}

async function reason(response) {
  try {
    const { error } = await response.json();
    return error;
  } catch {
    return `The server answered ${response.status} ${response.statusText}.`;
  }
}
