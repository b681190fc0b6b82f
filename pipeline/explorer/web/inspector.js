"use strict";
/* Details of the selected pixel, neuron, output or layer. */

const LISTED = 6; // neurons per list

class Inspector {
  constructor(box) {
    this.box = box;
    onChange((changed) => (changed.has("selected") ? this.draw() : this.later()));
  }

  /** Wait until the pen rests, so that drawing and prediction stay fluent. */
  later() {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.draw(), REST);
  }

  draw() {
    const { kind, layer, unit } = state.selected;
    const last = state.layers.length - 1;
    if (kind === "pixel") this.box.replaceChildren(...pixelDetails(unit));
    else if (kind === "layer") this.box.replaceChildren(...layerDetails());
    else this.box.replaceChildren(...unitDetails(layer, unit), ...(layer === last ? outputDetails(unit) : neuronDetails(layer, unit)));
  }
}

/** The weights into unit `unit` of a layer. */
function incoming(layer, unit) {
  return Float64Array.from({ length: layer.inputs }, (_, i) => layer.kernel[i * layer.units + unit]);
}

/** The weights from input `input` of a layer. */
function outgoing(layer, input) {
  return layer.kernel.subarray(input * layer.units, (input + 1) * layer.units);
}

const inputWidth = (l) => (l === 0 ? WIDTH : gridWidth(state.layers[l].inputs));
const inputName = (l) => (l === 0 ? "pixels" : "activations of the layer before");

/** Common to neurons and outputs: weights, weights × inputs, bias and sum. */
function unitDetails(l, unit) {
  const layer = state.layers[l];
  const weights = incoming(layer, unit);
  const inputs = state.computed.inputs[l];
  const products = weights.map((weight, i) => weight * inputs[i]);
  const total = products.reduce((sum, value) => sum + value, 0);
  const sum = state.computed.sums[l][unit];
  const title = unitName(l, unit);
  return [
    element("h3", {}, title[0].toUpperCase() + title.slice(1)),
    element(
      "div",
      { className: "figures" },
      signedFigure(weights, inputWidth(l), `its ${number(layer.inputs)} weights`),
      signedFigure(products, inputWidth(l), `weights × ${inputName(l)}`),
      element(
        "p",
        { className: "sum" },
        `Sum of the products: ${signed(total)}. With the bias ${signed(layer.bias[unit])}: ${signed(sum)}. `,
        l === state.layers.length - 1
          ? `Probability after softmax: ${percent(state.computed.values[l][unit], 2)}.`
          : `Activation (${content.activation}): ${number(state.computed.values[l][unit], 3)}.`,
      ),
    ),
  ];
}

function neuronDetails(l, unit) {
  const next = state.layers[l + 1];
  const value = state.computed.values[l][unit];
  const products = outgoing(next, unit).map((weight) => weight * value);
  if (l + 1 === state.layers.length - 1) {
    return [
      element("h3", {}, `Contribution to each output`),
      bars(CLASSES, products, [...products].map((each) => signed(each)), { limit: magnitude(products), signs: true }),
    ];
  }
  return [signedFigure(products, gridWidth(next.units), `contribution to each of the ${number(next.units)} neurons of the next layer`)];
}

function outputDetails(unit) {
  const l = state.layers.length - 1;
  const products = incoming(state.layers[l], unit).map((weight, i) => weight * state.computed.inputs[l][i]);
  const order = strongest(products, products.length);
  return [
    contributions("Neurons with a positive contribution", order.filter((i) => products[i] > 0), products),
    contributions("Neurons with a negative contribution", order.filter((i) => products[i] < 0), products),
  ];
}

function contributions(title, indices, products) {
  const l = state.layers.length - 2;
  const named = indices.slice(0, LISTED).map((i) => button(`${unitName(l, i)}: ${signed(products[i])}`, () => select({ kind: "unit", layer: l, unit: i })));
  return element("div", {}, element("h3", {}, `${title}: ${number(indices.length)}`), element("div", { className: "row" }, ...named));
}

function pixelDetails(unit) {
  const layer = state.layers[0];
  const value = state.pixels[unit];
  const products = outgoing(layer, unit).map((weight) => (weight * value) / 255);
  const [row, column] = [Math.floor(unit / WIDTH) + 1, (unit % WIDTH) + 1];
  return [
    element("h3", {}, `Pixel in row ${row}, column ${column}`),
    element(
      "div",
      { className: "figures" },
      signedFigure(outgoing(layer, unit), gridWidth(layer.units), `its ${number(layer.units)} weights, one for each neuron`),
      signedFigure(products, gridWidth(layer.units), `contribution to each of the ${number(layer.units)} neurons`),
      element(
        "p",
        { className: "sum" },
        `Value: ${value} of 255, so the input is ${number(value / 255, 3)}. `,
        value === 0 ? "A black pixel contributes nothing." : `Strongest contribution to a neuron: ${signed(products[strongest(products, 1)[0]] ?? 0)}.`,
      ),
    ),
  ];
}

/** The number of parameters of each layer. */
function layerDetails() {
  const rows = state.layers.map((layer, l) =>
    element(
      "tr",
      { className: l === state.selected.layer ? "chosen" : "" },
      element("td", {}, layerName(l)),
      element("td", {}, `${number(layer.inputs)} × ${number(layer.units)} + ${number(layer.units)}`),
      element("td", {}, number(parameters(layer))),
    ),
  );
  const total = state.layers.reduce((sum, layer) => sum + parameters(layer), 0);
  const { inputs, units } = state.layers[state.selected.layer];
  return [
    element("h3", {}, "Layers and their parameters"),
    element(
      "p",
      {},
      `${layerName(state.selected.layer)}: each of the ${number(units)} units has ${number(inputs)} weights, one per input, and a bias.`,
    ),
    element(
      "table",
      {},
      element("thead", {}, element("tr", {}, ...["layer", "weights + biases", "parameters"].map((name) => element("th", { scope: "col" }, name)))),
      element("tbody", {}, ...rows),
      element("tfoot", {}, element("tr", {}, element("td", {}, "total"), element("td", {}), element("td", { id: "total" }, number(total)))),
    ),
  ];
}

const parameters = (layer) => (layer.inputs + 1) * layer.units;

function layerName(l) {
  if (l === state.layers.length - 1) return "Outputs";
  return depth() > 1 ? `Hidden layer ${l + 1}` : "Hidden layer";
}
