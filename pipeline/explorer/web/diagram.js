"use strict";
/* A diagram of the network: the image, the hidden neurons as grids coloured by activation, the outputs, the strongest edges. */

const EDGES = 60; // most edges drawn between two layers
const TALL = 440; // height of the diagram in CSS pixels, if the layers stand side by side
const NARROW = 620; // below this width, the layers stand one below the other

class Diagram {
  constructor(canvas) {
    this.canvas = canvas;
    this.boxes = [];
    canvas.setAttribute(
      "aria-label",
      "Diagram of the network. Arrow keys move within a layer, Page Up and Page Down between layers. The selected unit is described below.",
    );
    canvas.addEventListener("pointerdown", (event) => this.pick(event));
    canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.request()).observe(canvas);
    onChange(() => this.request());
  }

  /** Draw once before the next frame, even after several changes. */
  request() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.layOut();
      this.draw();
    });
  }

  /** Compute the position of the image and of each layer: {left, top, width, height, columns, cell, count, last}. */
  layOut() {
    const width = this.canvas.clientWidth;
    const counts = [PIXELS, ...state.layers.map((layer) => layer.units)];
    const columns = counts.map((count, index) => (index === 0 ? WIDTH : index === counts.length - 1 ? 1 : gridWidth(count)));
    this.below = width < NARROW;
    const gap = this.below ? 60 : Math.max(40, width * 0.09);
    const outputs = this.below ? width : 230;
    const side = this.below ? Math.min(240, width - 40) : Math.min(TALL - 40, (width - outputs - gap * (counts.length - 1)) / (counts.length - 1));
    let along = 0;
    this.boxes = counts.map((count, index) => {
      const last = index === counts.length - 1;
      const rows = Math.ceil(count / columns[index]);
      const cell = last ? Math.min(38, (TALL - 40) / rows) : side / Math.max(columns[index], rows);
      const size = [last ? outputs : cell * columns[index], cell * rows];
      const box = this.below
        ? { left: (width - size[0]) / 2, top: along + 20 }
        : { left: along, top: 20 + (TALL - 40 - size[1]) / 2 };
      along += (this.below ? size[1] + 20 : size[0]) + gap;
      return { ...box, cell, count, columns: columns[index], width: size[0], height: size[1], last };
    });
    this.height = this.below ? along : TALL;
    this.size(width);
  }

  size(width) {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.style.height = `${this.height}px`;
    const wanted = { width: Math.round(width * ratio), height: Math.round(this.height * ratio) };
    if (this.canvas.width !== wanted.width || this.canvas.height !== wanted.height) Object.assign(this.canvas, wanted);
    this.context = this.canvas.getContext("2d");
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.context.clearRect(0, 0, width, this.height);
  }

  draw() {
    const { context } = this;
    context.font = "13px system-ui, sans-serif";
    this.labels = [];
    const [image, ...layers] = this.boxes;
    this.drawImage(image);
    layers.forEach((box, l) => (box.last ? this.drawOutputs(box) : this.drawGrid(box, l)));
    this.drawEdges();
    this.drawSelected();
    this.drawLabels(); // last, so that edges do not cover them
  }

  /** The centre of a cell; for an output, the left end of its bar. */
  centre(box, unit) {
    const x = box.left + ((unit % box.columns) + 0.5) * box.cell;
    const y = box.top + (Math.floor(unit / box.columns) + 0.5) * box.cell;
    if (!box.last) return [x, y];
    return this.below ? [box.left + 10, y] : [box.left + 26, y];
  }

  drawGrid(box, layer) {
    const { context } = this;
    const values = state.computed.values[layer];
    const limit = magnitude(values);
    const size = Math.max(1, box.cell - 2);
    for (let unit = 0; unit < box.count; unit++) {
      const [x, y] = this.centre(box, unit);
      context.fillStyle = `rgb(${activationColour(values[unit], limit).map(Math.round).join(" ")})`;
      context.fillRect(x - size / 2, y - size / 2, size, size);
    }
    this.label(`${number(box.count)} neurons`, box.left + box.width / 2, box.top - 6);
  }

  drawImage(box) {
    const small = element("canvas");
    paintImage(small, state.pixels);
    this.context.imageSmoothingEnabled = false;
    this.context.drawImage(small, box.left, box.top, box.width, box.height);
    this.label(`image, ${HEIGHT}×${WIDTH}`, box.left + box.width / 2, box.top - 6);
  }

  drawOutputs(box) {
    const { context } = this;
    const probabilities = state.computed.values.at(-1);
    const best = largest(probabilities);
    const start = box.left + (this.below ? 20 : 6);
    for (let unit = 0; unit < box.count; unit++) {
      const y = box.top + (unit + 0.5) * box.cell;
      const thick = Math.max(2, box.cell - 8);
      const room = box.width - (start - box.left) - 112; // class names at the left, probabilities at the right
      context.fillStyle = palette.panel.text;
      context.fillRect(start + 50, y - thick / 2, room, thick);
      context.fillStyle = palette.accent.text;
      context.fillRect(start + 50, y - thick / 2, room * probabilities[unit], thick);
      if (box.cell < 9) continue;
      context.fillStyle = palette.ink.text;
      context.textBaseline = "middle";
      context.font = `${unit === best ? "bold " : ""}13px system-ui, sans-serif`;
      context.textAlign = "right";
      context.fillText(CLASSES[unit].slice(0, 6), start + 44, y);
      context.textAlign = "left";
      context.fillText(percent(probabilities[unit]), start + 54 + room, y);
    }
    context.font = "13px system-ui, sans-serif";
    this.label(`${number(box.count)} outputs`, box.left + box.width / 2, box.top - 6);
  }

  label(...label) {
    this.labels.push(label); // [text, x, y]
  }

  drawLabels() {
    this.context.fillStyle = palette.muted.text;
    this.context.textAlign = "center";
    this.context.textBaseline = "alphabetic";
    for (const label of this.labels) this.context.fillText(...label);
  }

  drawEdges() {
    const { context } = this;
    state.layers.forEach((layer, l) => {
      const edges = strongestEdges(l, EDGES);
      const limit = edges.length ? Math.abs(edges[0].contribution) : 1;
      for (const { from, to, contribution } of edges.reverse()) {
        const share = Math.abs(contribution) / limit;
        context.strokeStyle = (contribution < 0 ? palette.negative : palette.positive).text;
        context.globalAlpha = 0.15 + 0.75 * share ** 2;
        context.lineWidth = 0.5 + 2.5 * share ** 2;
        this.line(this.centre(this.boxes[l], from), this.centre(this.boxes[l + 1], to));
      }
      context.globalAlpha = 1;
    });
  }

  line([x, y], [toX, toY]) {
    const { context } = this;
    context.beginPath();
    context.moveTo(x, y);
    if (this.below) context.bezierCurveTo(x, (y + toY) / 2, toX, (y + toY) / 2, toX, toY);
    else context.bezierCurveTo((x + toX) / 2, y, (x + toX) / 2, toY, toX, toY);
    context.stroke();
  }

  drawSelected() {
    const { context } = this;
    const { kind, layer, unit } = state.selected;
    context.strokeStyle = palette.accent.text;
    context.lineWidth = 2.5;
    const box = this.boxes[kind === "pixel" ? 0 : layer + 1];
    if (kind === "layer") {
      context.strokeRect(box.left - 5, box.top - 3, box.width + 10, box.height + 6);
    } else if (box.last) {
      context.strokeRect(box.left, box.top + unit * box.cell + 1, box.width, box.cell - 2);
    } else {
      const [x, y] = this.centre(box, unit);
      const size = Math.max(box.cell, 6) + 2;
      context.strokeRect(x - size / 2, y - size / 2, size, size);
    }
  }

  pick(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    this.boxes.forEach((box, index) => {
      const column = box.last ? 0 : Math.floor((x - box.left) / box.cell);
      const row = Math.floor((y - box.top) / box.cell);
      const unit = row * box.columns + column;
      const inside = x >= box.left && x < box.left + box.width && row >= 0 && unit >= 0 && unit < box.count;
      if (inside) this.choose(index, unit);
    });
  }

  choose(index, unit) {
    select(index === 0 ? { kind: "pixel", unit } : { kind: "unit", layer: index - 1, unit });
  }

  key(event) {
    const { kind, layer, unit = 0 } = state.selected;
    const index = kind === "pixel" ? 0 : layer + 1;
    const { columns, count } = this.boxes[index];
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    if (event.key in steps) {
      const next = kind === "layer" ? 0 : unit + steps[event.key];
      if (next >= 0 && next < count) this.choose(index, next);
    } else if (event.key === "PageUp" || event.key === "PageDown") {
      const next = index + (event.key === "PageUp" ? -1 : 1);
      if (this.boxes[next]) this.choose(next, Math.min(unit, this.boxes[next].count - 1));
    } else {
      return;
    }
    event.preventDefault();
  }
}

/** The edges into layer `l` with the largest contribution (weight × input), only those of the selected unit if it has any. */
function strongestEdges(l, most) {
  const { kernel, units } = state.layers[l];
  const inputs = state.computed.inputs[l];
  const { kind, layer, unit } = state.selected;
  const from = (kind === "pixel" && l === 0) || (kind === "unit" && layer === l - 1) ? unit : null;
  const to = kind === "unit" && layer === l ? unit : null;
  const indices = [];
  const contributions = [];
  for (let i = from ?? 0; i < (from === null ? inputs.length : from + 1); i++) {
    if (inputs[i] === 0) continue;
    for (let j = to ?? 0; j < (to === null ? units : to + 1); j++) {
      indices.push(i * units + j);
      contributions.push(inputs[i] * kernel[i * units + j]);
    }
  }
  return strongest(contributions, most).map((index) => ({
    from: Math.floor(indices[index] / units),
    to: indices[index] % units,
    contribution: contributions[index],
  }));
}
