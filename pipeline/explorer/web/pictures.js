"use strict";
/* Draw arrays as images and as bars. Colours come from the style sheet, for light and dark mode. */

const palette = {};

function readPalette() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["ground", "panel", "ink", "muted", "line", "accent", "positive", "negative", "lit", "unlit"]) {
    const text = style.getPropertyValue(`--${name}`).trim();
    palette[name] = { text, parts: [1, 3, 5].map((start) => parseInt(text.slice(start, start + 2), 16)) };
  }
}

const mixed = (from, to, share) => from.parts.map((part, index) => part + (to.parts[index] - part) * share);

/** Paint each value as a pixel of `canvas`, `width` per row; `colour(value)` returns [red, green, blue]. */
function paint(canvas, values, width, colour) {
  const height = Math.ceil(values.length / width);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let index = 0; index < values.length; index++) {
    const [red, green, blue] = colour(values[index]);
    image.data.set([red, green, blue, 255], 4 * index);
  }
  context.putImageData(image, 0, 0);
}

/** Paint an image: white ink on black. */
function paintImage(canvas, pixels, width = WIDTH) {
  paint(canvas, pixels, width, (value) => [value, value, value]);
}

/** Paint positive and negative values in two colours, the largest magnitude at full strength. */
function paintSigned(canvas, values, width, limit = magnitude(values)) {
  const ground = palette.panel;
  paint(canvas, values, width, (value) =>
    mixed(ground, value < 0 ? palette.negative : palette.positive, limit > 0 ? Math.min(1, Math.abs(value) / limit) : 0),
  );
}

/** The colour of an activation: the largest at full strength, negative ones in the negative colour. */
function activationColour(value, limit) {
  const share = limit > 0 ? Math.min(1, Math.abs(value) / limit) : 0;
  return mixed(palette.unlit, value < 0 ? palette.negative : palette.lit, share);
}

function magnitude(values) {
  let most = 0;
  for (const value of values) most = Math.max(most, Math.abs(value));
  return most;
}

/** The number of columns that makes a grid of `count` cells nearly square. */
function gridWidth(count) {
  return Math.ceil(Math.sqrt(count));
}

/** A canvas with a caption. */
function figure(canvas, caption, large = true) {
  canvas.classList.add("pixels");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", caption);
  return element("figure", { className: large ? "large" : "" }, canvas, element("figcaption", {}, caption));
}

function signedFigure(values, width, caption, large = true) {
  const canvas = element("canvas");
  paintSigned(canvas, values, width);
  return figure(canvas, caption, large);
}

/** A list of bars; `update(values, texts)` sets them. With `signs`, negative values have another colour. */
class Bars {
  constructor(list, names) {
    list.classList.add("bars");
    this.items = names.map((name) => {
      const fill = element("span", { className: "fill" });
      const text = element("span", { className: "figure" });
      const item = element("li", {}, element("span", { className: "name", title: name }, name), element("span", { className: "track" }, fill), text);
      list.append(item);
      return { item, fill, text };
    });
  }

  update(values, texts, { limit = 1, signs = false } = {}) {
    const first = largest(values);
    this.items.forEach(({ item, fill, text }, index) => {
      const value = values[index];
      item.classList.toggle("first", index === first);
      fill.style.width = `${Math.min(100, (100 * Math.abs(value)) / (limit || 1))}%`;
      fill.classList.toggle("positive", signs && value >= 0);
      fill.classList.toggle("negative", signs && value < 0);
      text.textContent = texts[index];
    });
  }
}

function bars(names, values, texts, options) {
  const list = element("ol", { className: "bars" });
  new Bars(list, names).update(values, texts, options);
  return list;
}
