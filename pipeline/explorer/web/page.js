"use strict";
/*
 * The page's state, and who is told when it changes.
 *
 * Views register what they draw with `onChange`; whoever changes the state says so with `change`. Everything shown is
 * computed from the state, so nothing can disagree.
 */

const content = JSON.parse(document.getElementById("content").textContent);
const [HEIGHT, WIDTH] = content.shape;
const PIXELS = HEIGHT * WIDTH;
const CLASSES = content.classes;
const NOUN = content.noun;
const REST = 60; // milliseconds without a change, after which details are drawn

const state = {
  pixels: new Uint8Array(PIXELS),
  moment: content.snapshots.length - 1,
  layers: [], // of the moment, moved by the steps taken
  taken: [], // the layers before each step
  computed: null, // what the network does with the pixels
  selected: { kind: "layer", layer: 0 },
  truth: 0,
  rate: content.step,
};

const decoded = new Map(); // layers of moments that were shown before
const listeners = [];

/** Call `draw(changed)` after each change; `changed` holds "pixels", "network", "selected" or "truth". */
function onChange(draw) {
  listeners.push(draw);
}

/** Note that `kinds` of the state changed: compute what follows from them, then draw. */
function change(...kinds) {
  const changed = new Set(kinds);
  if (changed.has("pixels") || changed.has("network")) {
    state.computed = forward(state.layers, content.activation, state.pixels);
  }
  for (const draw of listeners) draw(changed);
}

function layersAt(moment) {
  if (!decoded.has(moment)) decoded.set(moment, content.snapshots[moment].layers.map(decodedLayer));
  return decoded.get(moment);
}

function showMoment(moment) {
  state.moment = moment;
  state.layers = layersAt(moment);
  state.taken = [];
  change("network");
}

function showPixels(pixels, truth) {
  state.pixels = pixels;
  if (truth !== undefined) state.truth = truth;
  change("pixels", ...(truth === undefined ? [] : ["truth"]));
}

function select(selected) {
  state.selected = selected;
  change("selected");
}

const byId = (id) => document.getElementById(id);
const number = (value, digits = 0) =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const percent = (value, digits = 1) => `${number(100 * value, digits)} %`;
const signed = (value, digits = 3) => (value < 0 ? "−" : "+") + number(Math.abs(value), digits);

/** An element with properties and children: `element("p", {className: "muted"}, "text")`. */
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** A button that calls `act`. */
function button(text, act, properties = {}) {
  const made = element("button", { type: "button", ...properties }, text);
  made.addEventListener("click", act);
  return made;
}

/** What a unit of a layer is called. */
function unitName(layer, unit) {
  return layer === state.layers.length - 1 ? `output ${CLASSES[unit]}` : `neuron ${unit}${depth() > 1 ? ` of layer ${layer + 1}` : ""}`;
}

/** How many hidden layers there are. */
function depth() {
  return content.hidden.length;
}

/** The name of the moment: `after 3.5 of 26 epochs`. */
function momentName(moment) {
  const { epoch } = content.snapshots[moment];
  const end = content.snapshots.at(-1).epoch;
  if (epoch === 0) return "random start";
  if (moment === content.snapshots.length - 1) return `end of training, ${number(end)} epochs`;
  return `after ${number(epoch, epoch < 1 ? 2 : 1)} of ${number(end)} epochs`;
}
