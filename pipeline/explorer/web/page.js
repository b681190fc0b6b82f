"use strict";
/*
 * The state of the page.
 *
 * Views register with `onChange`; code that changes the state calls `change`. Everything on the page is computed from the
 * state, so the views always agree.
 */

const content = JSON.parse(document.getElementById("content").textContent);
const [HEIGHT, WIDTH] = content.shape;
const PIXELS = HEIGHT * WIDTH;
const CLASSES = content.classes;
const NOUN = content.noun;
const REST = 60; // milliseconds without a change before details are drawn

const state = {
  pixels: new Uint8Array(PIXELS),
  moment: content.snapshots.length - 1,
  layers: [], // the weights of the moment, after the steps taken
  taken: [], // the layers before each step, for undo
  computed: null, // result of `forward` for the pixels
  selected: { kind: "layer", layer: 0 },
  truth: 0,
  rate: content.step,
};

const decoded = new Map(); // moment -> its decoded layers
const listeners = [];

/** Call `draw(changed)` after each change; `changed` holds "pixels", "network", "selected" or "truth". */
function onChange(draw) {
  listeners.push(draw);
}

/** Announce that `kinds` of the state changed: recompute, then draw. */
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
  const created = Object.assign(document.createElement(tag), properties);
  created.append(...children);
  return created;
}

/** A button that calls `onClick` when clicked. */
function button(text, onClick, properties = {}) {
  const created = element("button", { type: "button", ...properties }, text);
  created.addEventListener("click", onClick);
  return created;
}

/** The name of a unit. */
function unitName(layer, unit) {
  return layer === state.layers.length - 1 ? `output ${CLASSES[unit]}` : `neuron ${unit}${depth() > 1 ? ` of layer ${layer + 1}` : ""}`;
}

/** The number of hidden layers. */
function depth() {
  return content.hidden.length;
}

/** `1 step`, `2 steps`. */
const steps = (count) => `${count} step${count === 1 ? "" : "s"}`;

/** The name of a moment of training: `after 3.5 of 26 epochs`. */
function momentName(moment) {
  const { epoch } = content.snapshots[moment];
  const end = content.snapshots.at(-1).epoch;
  if (epoch === 0) return "random weights";
  if (moment === content.snapshots.length - 1) return `trained for ${number(end)} epochs`;
  return `after ${number(epoch, epoch < 1 ? 2 : 1)} of ${number(end)} epochs`;
}
