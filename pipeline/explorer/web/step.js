"use strict";
/* One gradient step on the current image: the gradient, the effect of the step, and undo. */

class Step {
  constructor() {
    this.choices = CLASSES.map((name, index) => button(name, () => this.choose(index)));
    byId("truth").replaceChildren(element("span", {}, "Label"), ...this.choices);
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

  choose(index) {
    state.truth = index;
    change("truth");
  }

  setRate() {
    const rate = Number(byId("rate").value);
    const usable = byId("rate").value !== "" && Number.isFinite(rate) && rate > 0;
    byId("rate").setCustomValidity(usable ? "" : "Enter a number above 0.");
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
    this.choices.forEach((choice, index) => choice.setAttribute("aria-pressed", index === state.truth));
    const count = state.taken.length;
    byId("undo").disabled = count === 0;
    byId("taken").textContent = count ? `${steps(count)} taken. The whole page shows the changed network.` : "";
    const gradients = gradient(state.layers, content.activation, state.computed, state.truth);
    const after = forward(stepped(state.layers, gradients, state.rate), content.activation, state.pixels);
    byId("gradient").replaceChildren(this.outcome(after), this.changes(gradients));
  }

  /** The probabilities before and after the step. */
  outcome(after) {
    const [before, then] = [state.computed.values.at(-1), after.values.at(-1)];
    const texts = [...then].map((value, index) => `${points(value - before[index])} pp`);
    const loss = (values) => number(-Math.log(Math.max(values[state.truth], 1e-300)), 4);
    return element(
      "div",
      {},
      element("h3", {}, "Prediction after the step"),
      element("p", {}, `Loss: ${loss(before)} → ${loss(then)}. Probability of ${CLASSES[state.truth]}: ${percent(before[state.truth], 2)} → ${percent(then[state.truth], 2)}. Change of each class in percentage points (pp):`),
      bars(CLASSES, then, texts),
    );
  }

  /** The changes that the step makes to weights and sums. */
  changes(gradients) {
    const sections = gradients.map(({ inputs, deltas }, l) => {
      const change = (unit) => inputs.map((value) => -state.rate * value * deltas[unit]);
      const last = l === gradients.length - 1;
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
          last ? outputGradients(deltas) : signedFigure(deltas.map((delta) => -delta), gridWidth(deltas.length), `negative gradient of the loss for the sums of its ${number(deltas.length)} neurons`),
          signedFigure(change(unit), inputWidth(l), `change of the weights of ${name}`),
        ),
      );
    });
    return element("div", {}, ...sections.reverse());
  }
}

/** A difference of probabilities in percentage points. */
const points = (difference) => (Math.abs(difference) < 5e-4 ? "0.0" : signed(100 * difference, 1));

/** The negative gradient of the loss with respect to the sum of each output. */
function outputGradients(deltas) {
  const up = deltas.map((delta) => -delta);
  return element(
    "div",
    { className: "output-gradients" },
    bars(CLASSES, up, [...up].map((each) => signed(each, 4)), { limit: 1, signs: true }),
    element("p", { className: "muted" }, "negative gradient of the loss for each output's sum"),
  );
}
