"use strict";
/* Puts the page together, and gives tests and curious people `explorer` on the console. */

const WORDS = {
  draw:
    `What you draw is cut out, brought into the middle of ${HEIGHT}×${WIDTH} pixels as the training images were, and put through the ` +
    "network at every stroke. The network knows nothing of strokes: it sees brightness, and always answers with one of its classes.",
  network:
    `The image is laid flat: ${number(PIXELS)} numbers between 0 and 1. Every neuron sees all of them, multiplies each by a weight of its ` +
    `own, adds its bias, and gives on what its activation (${content.activation}) leaves of the sum. The ${CLASSES.length} outputs do the ` +
    "same with the neurons' values and compete: softmax turns their sums into probabilities, which add up to 1.",
  flat: "Nothing is computed here. Each row of pixels is put behind the one before; point at a row to see where it lands.",
  training:
    "The weights start at random, and the answers are guesses. Each batch of images moves every weight a little to where the answers would have " +
    "been better. Move the slider and watch your own image: everything above is computed with the weights of that moment.",
  step:
    "Say what it should have been. The loss is −log of the probability that the right answer got. Going back from the outputs, layer by layer, " +
    "the page works out for every weight how the loss depends on it, which is the gradient; a step moves each weight against it.",
};

function drawNow() {
  const probabilities = state.computed.values.at(-1);
  const best = largest(probabilities);
  const blank = state.pixels.every((pixel) => pixel === 0);
  paintImage(byId("now-image"), state.pixels);
  const answer = blank ? "Nothing drawn yet" : `It says ${CLASSES[best]}, with ${percent(probabilities[best])}`;
  byId("now-text").textContent = `${answer} · ${momentName(state.moment)}${state.taken.length ? ` + ${state.taken.length} step(s)` : ""}`;
}

function drawLayers() {
  const chosen = state.selected.kind === "layer" ? state.selected.layer : -1;
  byId("layers").replaceChildren(
    ...state.layers.map((layer, l) =>
      button(`${layerName(l)}: ${number(layer.units)}`, () => select({ kind: "layer", layer: l }), { ariaPressed: String(l === chosen) }),
    ),
  );
}

/** A strip of images to pick from; `note` says what is particular about one. */
function drawPicks(box, picks, pad, note) {
  imagesOf(picks.images).forEach((pixels, place) => {
    const canvas = element("canvas", { className: "pixels" });
    paintImage(canvas, pixels);
    const name = `Test image ${picks.rows[place] + 1}, ${CLASSES[picks.labels[place]]}${note(pixels)}`;
    const pick = button("", () => {
      pad.show(pixels);
      showPixels(pixels, picks.labels[place]);
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
    `A dense network that tells ${CLASSES.length} classes of ${content.dataset} apart: ${[PIXELS, ...content.hidden, CLASSES.length].map((units) => number(units)).join(" → ")}, ` +
    `${number(total)} parameters, right about ${percent(end.accuracy, 2)} of the test images. Everything here is computed in this page, with the exported model's own weights.`;
  for (const [id, words] of Object.entries(WORDS)) byId(`${id}-words`).textContent = words;
  byId("draw-title").textContent = `1 · Draw ${NOUN === "digit" ? "a digit" : "an image"}`;
  byId("edges").textContent = `At most ${EDGES} between two layers; pick something to see its own.`;
  byId("source").textContent = `Data: ${content.dataset}, ${content.licence}.`;

  const answer = new Bars(byId("answer"), CLASSES);
  onChange((changed) => {
    if (!changed.has("pixels") && !changed.has("network")) return;
    const probabilities = state.computed.values.at(-1);
    answer.update(probabilities, [...probabilities].map((value) => percent(value, 2)));
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
  drawPicks(byId("mistakes"), content.mistakes, pad, (pixels) => `, taken for ${CLASSES[best(pixels)]}`);
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

/* For the console, and for the tests. */
window.explorer = {
  content,
  state,
  predict: (pixels) => Array.from(forward(state.layers, content.activation, pixels).values.at(-1)),
  /** The weights after one step on `pixels`, as [kernel, bias] of each layer. */
  step: (pixels, truth, rate) => {
    const computed = forward(state.layers, content.activation, pixels);
    const after = stepped(state.layers, gradient(state.layers, content.activation, computed, truth), rate);
    return after.map(({ kernel, bias }) => [Array.from(kernel), Array.from(bias)]);
  },
};
