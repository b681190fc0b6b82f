"use strict";
/*
 * The network: numbers in, numbers out, and nothing of the page.
 *
 * A layer is {kernel, bias, inputs, units}; `kernel[i * units + j]` leads from input i to unit j. Pixels are bytes, 0 to 255.
 */

const SELU = { alpha: 1.6732632423543772, scale: 1.0507009873554805 };
const sigmoid = (z) => 1 / (1 + Math.exp(-z));

/* The activations that params.yaml knows, as Keras defines them: the value at z, and the slope there. */
const ACTIVATIONS = {
  elu: { value: (z) => (z > 0 ? z : Math.expm1(z)), slope: (z) => (z > 0 ? 1 : Math.exp(z)) },
  leaky_relu: { value: (z) => (z > 0 ? z : 0.2 * z), slope: (z) => (z > 0 ? 1 : 0.2) },
  relu: { value: (z) => (z > 0 ? z : 0), slope: (z) => (z > 0 ? 1 : 0) },
  selu: {
    value: (z) => SELU.scale * (z > 0 ? z : SELU.alpha * Math.expm1(z)),
    slope: (z) => SELU.scale * (z > 0 ? 1 : SELU.alpha * Math.exp(z)),
  },
  sigmoid: { value: sigmoid, slope: (z) => sigmoid(z) * (1 - sigmoid(z)) },
  silu: { value: (z) => z * sigmoid(z), slope: (z) => sigmoid(z) * (1 + z * (1 - sigmoid(z))) },
  softplus: { value: (z) => Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z))), slope: sigmoid },
  tanh: { value: Math.tanh, slope: (z) => 1 - Math.tanh(z) ** 2 },
};

/** The bytes of base64 text. */
function bytes(text) {
  return Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
}

function floats(text) {
  return new Float32Array(bytes(text).buffer);
}

/** A layer from the page's data: an int8 kernel with a scale a unit, or a float32 kernel. */
function decodedLayer(content) {
  const bias = floats(content.bias);
  const units = bias.length;
  if (content.kernel) {
    const kernel = floats(content.kernel);
    return { kernel, bias, units, inputs: kernel.length / units };
  }
  const steps = new Int8Array(bytes(content.steps).buffer);
  const scale = floats(content.scale);
  const kernel = Float32Array.from(steps, (step, place) => step * scale[place % units]);
  return { kernel, bias, units, inputs: kernel.length / units };
}

/** The sums of one layer before its activation. */
function sums(layer, inputs) {
  const { kernel, units } = layer;
  const found = Float64Array.from(layer.bias);
  for (let i = 0; i < inputs.length; i++) {
    const value = inputs[i];
    if (value === 0) continue; // most pixels are
    for (let j = 0, place = i * units; j < units; j++, place++) found[j] += value * kernel[place];
  }
  return found;
}

function softmax(logits) {
  const highest = Math.max(...logits);
  const raised = logits.map((logit) => Math.exp(logit - highest));
  const total = raised.reduce((sum, value) => sum + value, 0);
  return raised.map((value) => value / total);
}

/**
 * What every neuron does with an image.
 *
 * Returns {inputs, sums, values}: `inputs[l]` is what layer l takes, `sums[l]` what its units add up to, `values[l]` what
 * they give on; the values of the last layer are the probabilities.
 */
function forward(layers, activation, pixels) {
  const found = { inputs: [], sums: [], values: [] };
  let values = Float64Array.from(pixels, (pixel) => pixel / 255);
  layers.forEach((layer, l) => {
    const added = sums(layer, values);
    found.inputs.push(values);
    found.sums.push(added);
    values = l === layers.length - 1 ? softmax(added) : added.map(ACTIVATIONS[activation].value);
    found.values.push(values);
  });
  return found;
}

/**
 * The gradient of the loss, -log of the probability of class `truth`, with respect to every weight.
 *
 * The gradient of a kernel's weight from i to j is `inputs[i] * deltas[j]`, and that of a bias `deltas[j]`, so each layer is
 * given as {inputs, deltas}.
 */
function gradient(layers, activation, computed, truth) {
  const last = layers.length - 1;
  let deltas = computed.values[last].map((value, j) => value - (j === truth ? 1 : 0));
  const found = [];
  for (let l = last; l >= 0; l--) {
    found[l] = { inputs: computed.inputs[l], deltas };
    if (l > 0) deltas = deltasBefore(layers[l], deltas, computed.sums[l - 1], ACTIVATIONS[activation].slope);
  }
  return found;
}

function deltasBefore(layer, deltas, sumsBefore, slope) {
  return Float64Array.from(sumsBefore, (sum, i) => {
    let sent = 0;
    for (let j = 0, place = i * layer.units; j < layer.units; j++, place++) sent += layer.kernel[place] * deltas[j];
    return sent * slope(sum);
  });
}

/** New layers, moved by `-rate` times the gradient. */
function stepped(layers, found, rate) {
  return layers.map((layer, l) => {
    const { inputs, deltas } = found[l];
    const kernel = Float32Array.from(layer.kernel);
    for (let i = 0; i < layer.inputs; i++) {
      if (inputs[i] === 0) continue;
      for (let j = 0; j < layer.units; j++) kernel[i * layer.units + j] -= rate * inputs[i] * deltas[j];
    }
    return { ...layer, kernel, bias: layer.bias.map((bias, j) => bias - rate * deltas[j]) };
  });
}

/** The places of the `most` largest magnitudes in `values`, the largest first; zeros are none. */
function strongest(values, most) {
  const kept = [];
  let least = 0;
  for (let place = 0; place < values.length; place++) {
    const size = Math.abs(values[place]);
    if (size <= least) continue;
    kept.push(place);
    if (kept.length >= 4 * most) {
      kept.sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]));
      kept.length = most;
      least = Math.abs(values[kept[most - 1]]);
    }
  }
  kept.sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]));
  return kept.slice(0, most);
}

function largest(values) {
  let best = 0;
  for (let place = 1; place < values.length; place++) if (values[place] > values[best]) best = place;
  return best;
}
