"use strict";
/* Flatten: the rows of the image one after the other, as the network receives them. */

class Flat {
  constructor(canvas, text) {
    this.canvas = canvas;
    this.text = text;
    this.row = Math.floor(HEIGHT / 2);
    canvas.setAttribute("aria-valuemax", HEIGHT);
    canvas.addEventListener("pointermove", (event) => this.hover(event));
    canvas.addEventListener("pointerdown", (event) => this.hover(event));
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.show(this.row + step);
    });
    new ResizeObserver(() => this.draw()).observe(canvas);
    onChange((changed) => changed.has("pixels") && this.draw());
  }

  show(row) {
    this.row = Math.max(0, Math.min(HEIGHT - 1, row));
    this.draw();
  }

  /** Select the row under the pointer, in the image above or in the strip below. */
  hover(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    if (y < this.side) this.show(Math.floor((y / this.side) * HEIGHT));
    else this.show(Math.floor((x / box.width) * HEIGHT));
  }

  draw() {
    const width = this.canvas.clientWidth;
    const ratio = window.devicePixelRatio || 1;
    this.side = Math.min(170, width / 2);
    const height = this.side + 74;
    this.canvas.style.height = `${height}px`;
    Object.assign(this.canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.imageSmoothingEnabled = false;
    const [image, strip] = [element("canvas"), element("canvas")];
    paintImage(image, state.pixels);
    paintImage(strip, state.pixels, PIXELS);
    const wide = (this.side * WIDTH) / HEIGHT;
    const left = (width - wide) / 2;
    const top = this.side + 44;
    context.drawImage(image, left, 0, wide, this.side);
    context.drawImage(strip, 0, top, width, 26);
    this.mark(context, { left, wide, top, width });
    this.canvas.setAttribute("aria-valuenow", this.row + 1);
    this.text.textContent = `Row ${this.row + 1} of ${HEIGHT} becomes inputs ${number(this.row * WIDTH + 1)} to ${number((this.row + 1) * WIDTH)} of ${number(PIXELS)}.`;
  }

  mark(context, { left, wide, top, width }) {
    const [rowTop, rowHeight] = [(this.row * this.side) / HEIGHT, this.side / HEIGHT];
    const [start, end] = [(this.row * width) / HEIGHT, ((this.row + 1) * width) / HEIGHT];
    context.strokeStyle = context.fillStyle = palette.accent.text;
    context.lineWidth = 2;
    context.strokeRect(left - 2, rowTop - 1, wide + 4, rowHeight + 2);
    context.strokeRect(start, top - 2, end - start, 30);
    context.globalAlpha = 0.25;
    context.beginPath();
    context.moveTo(left, rowTop + rowHeight);
    context.lineTo(start, top - 2);
    context.lineTo(end, top - 2);
    context.lineTo(left + wide, rowTop + rowHeight);
    context.fill();
    context.globalAlpha = 1;
  }
}
