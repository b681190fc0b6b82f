"use strict";
/*
 * The drawing pad, and the preprocessing of a drawing to the convention of the training images.
 *
 * The convention is MNIST's: the ink's bounding box is scaled in proportion to 20x20 of the 28x28 pixels, its centre of mass is
 * in the middle (LeCun, Bottou, Bengio and Haffner, 1998). Images of other sizes keep the ratio of 20/28. Strokes are stored as
 * lines and redrawn at that size, so that lines have the same thickness in small and large drawings.
 */

const PAD = 280; // side of the pad in canvas pixels
const BOX = 20 / 28;
const PEN = 2.6 / 28; // thickness of a line, as a share of the image
const FINE = 4; // supersampling factor, for smooth edges

class Pad {
  constructor(canvas) {
    this.canvas = canvas;
    this.strokes = []; // of [x, y]
    this.drawing = false;
    this.cursor = [PAD / 2, PAD / 2];
    this.fine = element("canvas", { width: WIDTH * FINE, height: HEIGHT * FINE }).getContext("2d", { willReadFrequently: true });
    canvas.width = canvas.height = PAD;
    this.listen();
    this.draw();
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      canvas.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
      this.down(this.position(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.drawing) return;
      const events = event.getCoalescedEvents?.() ?? [];
      this.move((events.length ? events : [event]).map((each) => this.position(each)));
    });
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, () => this.lift());
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("focus", () => this.draw());
    canvas.addEventListener("blur", () => this.lift());
  }

  position(event) {
    const box = this.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * PAD, ((event.clientY - box.top) / box.height) * PAD];
  }

  down(point) {
    this.drawing = true;
    this.cursor = point;
    this.strokes.push([point]);
    this.changed();
  }

  move(points) {
    this.cursor = points.at(-1);
    this.strokes.at(-1).push(...points);
    this.changed();
  }

  lift() {
    this.drawing = false;
    this.draw();
  }

  clear() {
    this.strokes = [];
    this.drawing = false;
    this.changed();
  }

  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in moves) {
      const step = moves[event.key].map((way) => way * 10);
      const point = this.cursor.map((at, axis) => Math.max(5, Math.min(PAD - 5, at + step[axis])));
      if (this.drawing) this.move([point]);
      else this.cursor = point;
      this.draw();
    } else if (event.key === " ") {
      if (this.drawing) this.lift();
      else this.down(this.cursor);
    } else if (event.key === "Delete" || event.key === "Backspace") {
      this.clear();
    } else {
      return;
    }
    event.preventDefault();
  }

  changed() {
    this.draw();
    showPixels(this.pixels());
  }

  /** Show an image instead of the drawing. */
  show(pixels) {
    this.strokes = [];
    this.shown = pixels;
    this.draw();
  }

  draw() {
    const context = this.canvas.getContext("2d");
    context.fillStyle = "#000";
    context.fillRect(0, 0, PAD, PAD);
    if (this.strokes.length) this.shown = null;
    if (this.shown) this.drawShown(context);
    trace(context, this.strokes, (point) => point, 20);
    if (document.activeElement === this.canvas) {
      context.strokeStyle = this.drawing ? "#7fb0ff" : "#9aa7b8";
      context.lineWidth = 2;
      context.beginPath();
      context.arc(...this.cursor, 9, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  drawShown(context) {
    const small = element("canvas");
    paintImage(small, this.shown);
    const factor = Math.min(PAD / WIDTH, PAD / HEIGHT);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, (PAD - WIDTH * factor) / 2, (PAD - HEIGHT * factor) / 2, WIDTH * factor, HEIGHT * factor);
  }

  /** The drawing as an input of the network. */
  pixels() {
    if (!this.strokes.length) return new Uint8Array(PIXELS);
    const fit = fitted(this.strokes.flat());
    const image = this.rendered((point) => fit(point));
    const shift = centring(image);
    return shift.some((way) => way !== 0) ? moved(image, shift) : image;
  }

  rendered(fit) {
    const { fine } = this;
    fine.fillStyle = "#000";
    fine.fillRect(0, 0, WIDTH * FINE, HEIGHT * FINE);
    trace(fine, this.strokes, (point) => fit(point).map((at) => at * FINE), PEN * Math.min(HEIGHT, WIDTH) * FINE);
    const { data } = fine.getImageData(0, 0, WIDTH * FINE, HEIGHT * FINE);
    const image = new Float32Array(PIXELS);
    for (let y = 0; y < HEIGHT * FINE; y++) {
      for (let x = 0; x < WIDTH * FINE; x++) {
        image[Math.floor(y / FINE) * WIDTH + Math.floor(x / FINE)] += data[4 * (y * WIDTH * FINE + x)];
      }
    }
    const brightest = image.reduce((most, value) => Math.max(most, value), 0);
    return Uint8Array.from(image, (value) => Math.round((255 * value) / (brightest || 1)));
  }
}

/** Draw the strokes as white lines, with their points moved by `fit`. */
function trace(context, strokes, fit, thickness) {
  context.strokeStyle = "#fff";
  context.lineWidth = thickness;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    context.beginPath();
    context.moveTo(...fit(stroke[0]));
    for (const point of stroke.length > 1 ? stroke.slice(1) : stroke) context.lineTo(...fit(point));
    context.stroke();
  }
}

/** A function that maps points of the pad into the box in the middle of the image. */
function fitted(points) {
  const low = [0, 1].map((axis) => points.reduce((least, point) => Math.min(least, point[axis]), Infinity));
  const high = [0, 1].map((axis) => points.reduce((most, point) => Math.max(most, point[axis]), -Infinity));
  const pen = PEN * Math.min(HEIGHT, WIDTH);
  const room = [BOX * WIDTH - pen, BOX * HEIGHT - pen];
  const factor = Math.min(...room.map((space, axis) => space / Math.max(high[axis] - low[axis], 1e-9)), room[0] / 20);
  return (point) => point.map((at, axis) => (at - (low[axis] + high[axis]) / 2) * factor + [WIDTH, HEIGHT][axis] / 2);
}

/** The shift [x, y] in pixels that brings the centre of mass to the middle: pixel 14 of 28, counted from 0. */
function centring(image) {
  let [total, x, y] = [0, 0, 0];
  image.forEach((value, index) => {
    total += value;
    x += value * (index % WIDTH);
    y += value * Math.floor(index / WIDTH);
  });
  return total ? [Math.round(WIDTH / 2 - x / total), Math.round(HEIGHT / 2 - y / total)] : [0, 0];
}

function moved(image, [right, down]) {
  return image.map((_, index) => {
    const x = (index % WIDTH) - right;
    const y = Math.floor(index / WIDTH) - down;
    return x >= 0 && x < WIDTH && y >= 0 && y < HEIGHT ? image[y * WIDTH + x] : 0;
  });
}
