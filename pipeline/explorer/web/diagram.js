"use strict";
/* The network as a drawing: the image, the hidden neurons as grids lit by activation, the outputs, and the strongest edges. */

const EDGES = 60; // drawn between two layers
const TALL = 440; // height of a part's row, in CSS pixels
const NARROW = 620; // narrower than this, the parts stand one below the other

class Diagram {
  constructor(canvas) {
    this.canvas = canvas;
    this.parts = [];
    canvas.setAttribute(
      "aria-label",
      "The network. Arrow keys move within a layer, Page Up and Page Down from layer to layer; what is picked is described below.",
    );
    canvas.addEventListener("pointerdown", (event) => this.pick(event));
    canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.request()).observe(canvas);
    onChange(() => this.request());
  }

  /** Draw before the next frame, once, however many changes there are until then. */
  request() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.layOut();
      this.draw();
    });
  }

  /** Where each part stands: the image, then each layer. A part is {left, top, columns, cell, row, count}. */
  layOut() {
    const width = this.canvas.clientWidth;
    const counts = [PIXELS, ...state.layers.map((layer) => layer.units)];
    const columns = counts.map((count, place) => (place === 0 ? WIDTH : place === counts.length - 1 ? 1 : gridWidth(count)));
    this.below = width < NARROW;
    const gap = this.below ? 60 : Math.max(40, width * 0.09);
    const outputs = this.below ? width : 170;
    const side = this.below ? Math.min(240, width - 40) : Math.min(TALL - 40, (width - outputs - gap * (counts.length - 1)) / (counts.length - 1));
    let along = 0;
    this.parts = counts.map((count, place) => {
      const last = place === counts.length - 1;
      const rows = Math.ceil(count / columns[place]);
      const cell = last ? Math.min(38, (TALL - 40) / rows) : side / Math.max(columns[place], rows);
      const size = [last ? outputs : cell * columns[place], cell * rows];
      const part = this.below
        ? { left: (width - size[0]) / 2, top: along + 20 }
        : { left: along, top: 20 + (TALL - 40 - size[1]) / 2 };
      along += (this.below ? size[1] + 20 : size[0]) + gap;
      return { ...part, cell, count, columns: columns[place], width: size[0], height: size[1], last };
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
    const [image, ...layers] = this.parts;
    this.drawImage(image);
    layers.forEach((part, l) => (part.last ? this.drawOutputs(part) : this.drawGrid(part, l + 1)));
    this.drawEdges();
    this.drawSelected();
  }

  /** The middle of a cell; of an output, the edge at which lines arrive. */
  centre(part, unit, leaving = false) {
    const x = part.left + ((unit % part.columns) + 0.5) * part.cell;
    const y = part.top + (Math.floor(unit / part.columns) + 0.5) * part.cell;
    if (!part.last) return [x, y];
    return this.below ? [part.left + 10, y] : [part.left + 26, y];
  }

  drawGrid(part, place) {
    const { context } = this;
    const values = state.computed.values[place - 1];
    const limit = magnitude(values);
    const size = Math.max(1, part.cell - 2);
    for (let unit = 0; unit < part.count; unit++) {
      const [x, y] = this.centre(part, unit);
      context.fillStyle = `rgb(${activationColour(values[unit], limit).map(Math.round).join(" ")})`;
      context.fillRect(x - size / 2, y - size / 2, size, size);
    }
    this.label(`${number(part.count)} neurons`, part.left + part.width / 2, part.top - 6);
  }

  drawImage(part) {
    const small = element("canvas");
    paintImage(small, state.pixels);
    this.context.imageSmoothingEnabled = false;
    this.context.drawImage(small, part.left, part.top, part.width, part.height);
    this.label(`image, ${HEIGHT}×${WIDTH}`, part.left + part.width / 2, part.top - 6);
  }

  drawOutputs(part) {
    const { context } = this;
    const probabilities = state.computed.values.at(-1);
    const best = largest(probabilities);
    const start = part.left + (this.below ? 20 : 6);
    for (let unit = 0; unit < part.count; unit++) {
      const y = part.top + (unit + 0.5) * part.cell;
      const thick = Math.max(2, part.cell - 8);
      const room = part.width - (start - part.left) - 112; // names at the left, figures at the right
      context.fillStyle = palette.panel.text;
      context.fillRect(start + 50, y - thick / 2, room, thick);
      context.fillStyle = palette.accent.text;
      context.fillRect(start + 50, y - thick / 2, room * probabilities[unit], thick);
      if (part.cell < 9) continue;
      context.fillStyle = palette.ink.text;
      context.textBaseline = "middle";
      context.font = `${unit === best ? "bold " : ""}13px system-ui, sans-serif`;
      context.textAlign = "right";
      context.fillText(CLASSES[unit].slice(0, 6), start + 44, y);
      context.textAlign = "left";
      context.fillText(percent(probabilities[unit]), start + 54 + room, y);
    }
    context.font = "13px system-ui, sans-serif";
    this.label(`${number(part.count)} outputs`, part.left + part.width / 2, part.top - 6);
  }

  label(text, x, y) {
    this.context.fillStyle = palette.muted.text;
    this.context.textAlign = "center";
    this.context.textBaseline = "alphabetic";
    this.context.fillText(text, x, y);
  }

  drawEdges() {
    const { context } = this;
    state.layers.forEach((layer, l) => {
      const edges = strongestEdges(l, EDGES);
      const limit = edges.length ? Math.abs(edges[0].sent) : 1;
      for (const { from, to, sent } of edges.reverse()) {
        const share = Math.abs(sent) / limit;
        context.strokeStyle = (sent < 0 ? palette.negative : palette.positive).text;
        context.globalAlpha = 0.15 + 0.75 * share ** 2;
        context.lineWidth = 0.5 + 2.5 * share ** 2;
        this.line(this.centre(this.parts[l], from), this.centre(this.parts[l + 1], to));
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
    const part = this.parts[kind === "pixel" ? 0 : layer + 1];
    if (kind === "layer") {
      context.strokeRect(part.left - 5, part.top - 3, part.width + 10, part.height + 6);
    } else if (part.last) {
      context.strokeRect(part.left, part.top + unit * part.cell + 1, part.width, part.cell - 2);
    } else {
      const [x, y] = this.centre(part, unit);
      const size = Math.max(part.cell, 6) + 2;
      context.strokeRect(x - size / 2, y - size / 2, size, size);
    }
  }

  pick(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    this.parts.forEach((part, place) => {
      const column = part.last ? 0 : Math.floor((x - part.left) / part.cell);
      const row = Math.floor((y - part.top) / part.cell);
      const unit = row * part.columns + column;
      const inside = x >= part.left && x < part.left + part.width && row >= 0 && unit >= 0 && unit < part.count;
      if (inside) this.choose(place, unit);
    });
  }

  choose(place, unit) {
    select(place === 0 ? { kind: "pixel", unit } : { kind: "unit", layer: place - 1, unit });
  }

  key(event) {
    const { kind, layer, unit = 0 } = state.selected;
    const place = kind === "pixel" ? 0 : layer + 1;
    const { columns, count } = this.parts[place];
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    if (event.key in steps) {
      const next = kind === "layer" ? 0 : unit + steps[event.key];
      if (next >= 0 && next < count) this.choose(place, next);
    } else if (event.key === "PageUp" || event.key === "PageDown") {
      const next = place + (event.key === "PageUp" ? -1 : 1);
      if (this.parts[next]) this.choose(next, Math.min(unit, this.parts[next].count - 1));
    } else {
      return;
    }
    event.preventDefault();
  }
}

/** The edges of layer `l` that send the most, weight times what comes in: of what is selected, where that has edges there. */
function strongestEdges(l, most) {
  const { kernel, units } = state.layers[l];
  const inputs = state.computed.inputs[l];
  const { kind, layer, unit } = state.selected;
  const from = (kind === "pixel" && l === 0) || (kind === "unit" && layer === l - 1) ? unit : null;
  const to = kind === "unit" && layer === l ? unit : null;
  const places = [];
  const sent = [];
  for (let i = from ?? 0; i < (from === null ? inputs.length : from + 1); i++) {
    if (inputs[i] === 0) continue;
    for (let j = to ?? 0; j < (to === null ? units : to + 1); j++) {
      places.push(i * units + j);
      sent.push(inputs[i] * kernel[i * units + j]);
    }
  }
  return strongest(sent, most).map((place) => ({
    from: Math.floor(places[place] / units),
    to: places[place] % units,
    sent: sent[place],
  }));
}
