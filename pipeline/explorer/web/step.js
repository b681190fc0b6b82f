"use strict";
/* One step of back-propagation on the image in place: the gradient, the step, what it changes, and undo. */

class Step {
  constructor() {
    this.choices = CLASSES.map((name, place) => button(name, () => this.choose(place)));
    byId("truth").replaceChildren(element("span", {}, `It was ${NOUN === "digit" ? "a" : "of class"}`), ...this.choices);
    byId("rate").value = state.rate;
    byId("rate").addEventListener("input", () => this.setRate());
    byId("take").addEventListener("click", () => this.take());
    byId("undo").addEventListener("click", () => this.undo());
    onChange((changed) => (changed.has("truth") && !changed.has("pixels") ? this.draw() : this.later()));
  }

  later() {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.draw(), REST);
  }

  choose(place) {
    state.truth = place;
    change("truth");
  }

  setRate() {
    const rate = Number(byId("rate").value);
    const usable = byId("rate").value !== "" && Number.isFinite(rate) && rate > 0;
    byId("rate").setCustomValidity(usable ? "" : "A number above 0.");
    byId("take").disabled = !usable;
    if (usable) {
      state.rate = rate;
      change("truth");
    }
  }

  take() {
    state.taken.push(state.layers);
    state.layers = stepped(state.layers, gradient(state.layers, content.activation, state.computed, state.truth), state.rate);
    change("network");
  }

  undo() {
    state.layers = state.taken.pop();
    change("network");
  }

  draw() {
    this.choices.forEach((choice, place) => choice.setAttribute("aria-pressed", place === state.truth));
    const count = state.taken.length;
    byId("undo").disabled = count === 0;
    byId("taken").textContent = count ? `${count} step${count > 1 ? "s" : ""} taken; everything on this page shows the network after ${count > 1 ? "them" : "it"}.` : "";
    const found = gradient(state.layers, content.activation, state.computed, state.truth);
    const after = forward(stepped(state.layers, found, state.rate), content.activation, state.pixels);
    byId("gradient").replaceChildren(this.outcome(after), this.moves(found));
  }

  /** The probabilities before and after the step. */
  outcome(after) {
    const [before, then] = [state.computed.values.at(-1), after.values.at(-1)];
    const texts = [...then].map((value, place) => `${signed(100 * (value - before[place]), 1)} pts`);
    const loss = (values) => number(-Math.log(Math.max(values[state.truth], 1e-300)), 4);
    return element(
      "div",
      {},
      element("h3", {}, "What the step would make of the answer"),
      element("p", {}, `Loss ${loss(before)} now, ${loss(then)} after it: ${CLASSES[state.truth]} from ${percent(before[state.truth], 2)} to ${percent(then[state.truth], 2)}.`),
      bars(CLASSES, then, texts),
    );
  }

  /** Which weights would grow, and which shrink. */
  moves(found) {
    const figures = found.map(({ inputs, deltas }, l) => {
      const moved = (unit) => inputs.map((value) => -state.rate * value * deltas[unit]);
      const last = l === found.length - 1;
      const { selected } = state;
      const unit = selected.kind === "unit" && selected.layer === l ? selected.unit : last ? state.truth : strongest(deltas, 1)[0] ?? 0;
      const name = unitName(l, unit);
      return element(
        "div",
        {},
        element("h3", {}, layerName(l)),
        element(
          "div",
          { className: "figures" },
          last ? pushes(deltas) : signedFigure(deltas.map((delta) => -delta), gridWidth(deltas.length), `its ${number(deltas.length)} neurons: which would be pushed up, and which down`),
          signedFigure(moved(unit), inputWidth(l), `the weights of ${name}: which would grow, and which shrink`),
        ),
      );
    });
    return element("div", {}, ...figures.reverse());
  }
}

/** By how much the loss pushes the sum of each output up or down. */
function pushes(deltas) {
  const up = deltas.map((delta) => -delta);
  return element(
    "div",
    { className: "pushes" },
    bars(CLASSES, up, [...up].map((each) => signed(each, 4)), { limit: 1, signs: true }),
    element("p", { className: "muted" }, "which sums would be pushed up, and which down"),
  );
}
