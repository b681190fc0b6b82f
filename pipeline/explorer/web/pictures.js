"use strict";
/* Pictures of numbers, and bars. Colours come from the style sheet, so that light and dark are right. */

const palette = {};

function readPalette() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["ground", "panel", "ink", "muted", "line", "accent", "positive", "negative", "lit", "unlit"]) {
    const text = style.getPropertyValue(`--${name}`).trim();
    palette[name] = { text, parts: [1, 3, 5].map((start) => parseInt(text.slice(start, start + 2), 16)) };
  }
}

const mixed = (from, to, share) => from.parts.map((part, place) => part + (to.parts[place] - part) * share);

/** Paint `values`, one a cell, row by row, `width` a row, on `canvas`; `colour(value)` gives [red, green, blue]. */
function paint(canvas, values, width, colour) {
  const height = Math.ceil(values.length / width);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let place = 0; place < values.length; place++) {
    const [red, green, blue] = colour(values[place]);
    image.data.set([red, green, blue, 255], 4 * place);
  }
  context.putImageData(image, 0, 0);
}

/** An image as it is: white ink on black. */
function paintImage(canvas, pixels, width = WIDTH) {
  paint(canvas, pixels, width, (value) => [value, value, value]);
}

/** What is positive in one colour and negative in another, the strongest at full strength. */
function paintSigned(canvas, values, width, limit = magnitude(values)) {
  const ground = palette.panel;
  paint(canvas, values, width, (value) =>
    mixed(ground, value < 0 ? palette.negative : palette.positive, limit > 0 ? Math.min(1, Math.abs(value) / limit) : 0),
  );
}

/** Activations: dark is off, the strongest at full strength; those below zero in the colour of what takes away. */
function activationColour(value, limit) {
  const share = limit > 0 ? Math.min(1, Math.abs(value) / limit) : 0;
  return mixed(palette.unlit, value < 0 ? palette.negative : palette.lit, share);
}

function magnitude(values) {
  let most = 0;
  for (const value of values) most = Math.max(most, Math.abs(value));
  return most;
}

/** How wide to lay `count` units as a grid, as square as can be. */
function gridWidth(count) {
  return Math.ceil(Math.sqrt(count));
}

/** A picture with a caption. */
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

/** A list of bars that `update(values, texts)` sets; negative values go in the other colour. */
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
    this.items.forEach(({ item, fill, text }, place) => {
      const value = values[place];
      item.classList.toggle("first", place === first);
      fill.style.width = `${Math.min(100, (100 * Math.abs(value)) / (limit || 1))}%`;
      fill.classList.toggle("positive", signs && value >= 0);
      fill.classList.toggle("negative", signs && value < 0);
      text.textContent = texts[place];
    });
  }
}

function bars(names, values, texts, options) {
  const list = element("ol", { className: "bars" });
  new Bars(list, names).update(values, texts, options);
  return list;
}
