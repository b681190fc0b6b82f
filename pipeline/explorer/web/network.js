"use strict";
/*
 * The network: forward pass, back-propagation and gradient step, independent of the page.
 *
 * A layer is {kernel, bias, inputs, units}; `kernel[i * units + j]` is the weight from input i to unit j. Pixels are 0 to 255.
 */

const SELU = { alpha: 1.6732632423543772, scale: 1.0507009873554805 };
const sigmoid = (z) => 1 / (1 + Math.exp(-z));

/* The activation functions that params.yaml accepts, as Keras defines them, with their derivative (slope). */
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

/** Decode base64 text. */
function bytes(text) {
  return Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
}

function floats(text) {
  return new Float32Array(bytes(text).buffer);
}

/** Decode a layer: an int8 kernel with a scale per unit, or a float32 kernel. */
function decodedLayer(content) {
  const bias = floats(content.bias);
  const units = bias.length;
  if (content.kernel) {
    const kernel = floats(content.kernel);
    return { kernel, bias, units, inputs: kernel.length / units };
  }
  const steps = new Int8Array(bytes(content.steps).buffer);
  const scale = floats(content.scale);
  const kernel = Float32Array.from(steps, (step, index) => step * scale[index % units]);
  return { kernel, bias, units, inputs: kernel.length / units };
}

/** The weighted sums of a layer's units, before the activation function. */
function sums(layer, inputs) {
  const { kernel, units } = layer;
  const total = Float64Array.from(layer.bias);
  for (let i = 0; i < inputs.length; i++) {
    const value = inputs[i];
    if (value === 0) continue; // most pixels are
    for (let j = 0, index = i * units; j < units; j++, index++) total[j] += value * kernel[index];
  }
  return total;
}

function softmax(logits) {
  const highest = Math.max(...logits);
  const raised = logits.map((logit) => Math.exp(logit - highest));
  const total = raised.reduce((sum, value) => sum + value, 0);
  return raised.map((value) => value / total);
}

/**
 * The forward pass for an image.
 *
 * Returns {inputs, sums, values} per layer: its inputs, its weighted sums and its activations. The values of the last layer
 * are the probabilities.
 */
function forward(layers, activation, pixels) {
  const computed = { inputs: [], sums: [], values: [] };
  let values = Float64Array.from(pixels, (pixel) => pixel / 255);
  layers.forEach((layer, l) => {
    const added = sums(layer, values);
    computed.inputs.push(values);
    computed.sums.push(added);
    values = l === layers.length - 1 ? softmax(added) : added.map(ACTIVATIONS[activation].value);
    computed.values.push(values);
  });
  return computed;
}

/**
 * The gradient of the loss, -log of the probability of class `truth`, with respect to every weight.
 *
 * The gradient of a kernel's weight from i to j is `inputs[i] * deltas[j]`, that of a bias is `deltas[j]`. Each layer is returned
 * as {inputs, deltas}.
 */
function gradient(layers, activation, computed, truth) {
  const last = layers.length - 1;
  let deltas = computed.values[last].map((value, j) => value - (j === truth ? 1 : 0));
  const gradients = [];
  for (let l = last; l >= 0; l--) {
    gradients[l] = { inputs: computed.inputs[l], deltas };
    if (l > 0) deltas = deltasBefore(layers[l], deltas, computed.sums[l - 1], ACTIVATIONS[activation].slope);
  }
  return gradients;
}

function deltasBefore(layer, deltas, sumsBefore, slope) {
  return Float64Array.from(sumsBefore, (sum, i) => {
    let total = 0;
    for (let j = 0, index = i * layer.units; j < layer.units; j++, index++) total += layer.kernel[index] * deltas[j];
    return total * slope(sum);
  });
}

/** New layers after a step: the weights minus `rate` times the gradient. */
function stepped(layers, gradients, rate) {
  return layers.map((layer, l) => {
    const { inputs, deltas } = gradients[l];
    const kernel = Float32Array.from(layer.kernel);
    for (let i = 0; i < layer.inputs; i++) {
      if (inputs[i] === 0) continue;
      for (let j = 0; j < layer.units; j++) kernel[i * layer.units + j] -= rate * inputs[i] * deltas[j];
    }
    return { ...layer, kernel, bias: layer.bias.map((bias, j) => bias - rate * deltas[j]) };
  });
}

/** The indices of the `most` largest magnitudes in `values`, the largest first. Zeros are left out. */
function strongest(values, most) {
  const kept = [];
  let least = 0;
  for (let index = 0; index < values.length; index++) {
    const size = Math.abs(values[index]);
    if (size <= least) continue;
    kept.push(index);
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
  for (let index = 1; index < values.length; index++) if (values[index] > values[best]) best = index;
  return best;
}
