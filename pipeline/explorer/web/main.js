"use strict";
/* Builds the page, and exposes `explorer` on the browser's console for tests and for trying things out. */

const WORDS = {
  draw:
    `Your drawing is scaled and centred on ${HEIGHT}×${WIDTH} pixels, like the training images. The network predicts again at every stroke. ` +
    "It sees only the brightness of the pixels, and always predicts one of its classes.",
  network:
    `The input is ${number(PIXELS)} numbers between 0 and 1, one per pixel. Each hidden neuron multiplies every input by a weight, adds the ` +
    `products and a bias, and applies the activation function (${content.activation}) to the sum. Each of the ${CLASSES.length} outputs does the same with the ` +
    "neurons' activations; softmax then turns the outputs' sums into probabilities that add up to 1.",
  flat: "The first layer computes nothing. It places the rows of pixels one after the other. Point at a row to see where it goes.",
  training:
    "Training starts from random weights, so the first predictions are guesses. Each batch of images changes every weight a little to reduce " +
    "the loss. Move the slider: everything above is computed with the weights of that epoch.",
  step:
    "Choose the label. The loss is −log of the probability predicted for it. Back-propagation goes from the outputs back through the layers and " +
    "computes the gradient: how the loss changes with each weight. A step subtracts the learning rate times the gradient from the weights.",
};

function drawNow() {
  const probabilities = state.computed.values.at(-1);
  const best = largest(probabilities);
  const blank = state.pixels.every((pixel) => pixel === 0);
  paintImage(byId("now-image"), state.pixels);
  const prediction = blank ? "Nothing drawn yet" : `Prediction: ${CLASSES[best]} (${percent(probabilities[best])})`;
  byId("now-text").textContent = `${prediction} · ${momentName(state.moment)}${state.taken.length ? ` + ${steps(state.taken.length)}` : ""}`;
}

function drawLayers() {
  const chosen = state.selected.kind === "layer" ? state.selected.layer : -1;
  byId("layers").replaceChildren(
    ...state.layers.map((layer, l) =>
      button(`${layerName(l)}: ${number(layer.units)}`, () => select({ kind: "layer", layer: l }), { ariaPressed: String(l === chosen) }),
    ),
  );
}

/** A strip of images to pick from. `note(pixels)` is added to the title of each. */
function drawPicks(box, picks, pad, note) {
  imagesOf(picks.images).forEach((pixels, index) => {
    const canvas = element("canvas", { className: "pixels" });
    paintImage(canvas, pixels);
    const name = `Test image ${picks.rows[index] + 1}, label ${CLASSES[picks.labels[index]]}${note(pixels)}`;
    const pick = button("", () => {
      pad.show(pixels);
      showPixels(pixels, picks.labels[index]);
    }, { title: name, ariaLabel: name });
    pick.append(canvas);
    box.append(pick);
  });
}

function start() {
  readPalette();
  state.layers = layersAt(state.moment);
  const end = content.snapshots.at(-1);
  const total = state.layers.reduce((sum, layer) => sum + parameters(layer), 0);
  byId("about").textContent =
    `A dense network that classifies images of ${content.dataset} into ${CLASSES.length} classes: ${[PIXELS, ...content.hidden, CLASSES.length].map((units) => number(units)).join(" → ")}, ` +
    `${number(total)} parameters, ${percent(end.accuracy, 2)} test accuracy. This page computes everything itself, with the weights of the exported model.`;
  for (const [id, words] of Object.entries(WORDS)) byId(`${id}-words`).textContent = words;
  byId("draw-title").textContent = `1 · Draw ${NOUN === "digit" ? "a digit" : "an image"}`;
  byId("edges").textContent = `The ${EDGES} strongest between two layers are drawn; select a unit to see its own.`;
  byId("source").textContent = `Data: ${content.dataset}, ${content.licence}.`;

  const prediction = new Bars(byId("answer"), CLASSES);
  onChange((changed) => {
    if (!changed.has("pixels") && !changed.has("network")) return;
    const probabilities = state.computed.values.at(-1);
    prediction.update(probabilities, [...probabilities].map((value) => percent(value, 2)));
    drawNow();
  });
  onChange((changed) => (changed.has("network") || changed.has("selected")) && drawLayers());
  const pad = new Pad(byId("pad"));
  byId("clear").addEventListener("click", () => pad.clear());
  new Diagram(byId("diagram"));
  new Flat(byId("flat"), byId("flat-row"));
  new Inspector(byId("inspector"));
  new Training();
  new Step();
  drawData();
  const best = (pixels) => largest(forward(layersAt(content.snapshots.length - 1), content.activation, pixels).values.at(-1));
  drawPicks(byId("samples"), content.samples, pad, () => "");
  drawPicks(byId("mistakes"), content.mistakes, pad, (pixels) => `, predicted as ${CLASSES[best(pixels)]}`);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    readPalette();
    change("network", "selected");
  });

  const first = imagesOf(content.samples.images)[0];
  pad.show(first);
  state.pixels = first;
  state.truth = content.samples.labels[0];
  change("pixels", "network", "selected", "truth");
}

start();

/* For the console and the tests. */
window.explorer = {
  content,
  state,
  predict: (pixels) => Array.from(forward(state.layers, content.activation, pixels).values.at(-1)),
  /** The weights after one gradient step on `pixels` with label `truth`: [kernel, bias] of each layer. */
  step: (pixels, truth, rate) => {
    const computed = forward(state.layers, content.activation, pixels);
    const after = stepped(state.layers, gradient(state.layers, content.activation, computed, truth), rate);
    return after.map(({ kernel, bias }) => [Array.from(kernel), Array.from(bias)]);
  },
};
