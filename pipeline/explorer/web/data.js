"use strict";
/* The data: images per class, the mean image of each class, and examples of augmentation. */

const imagesOf = (text) => {
  const all = bytes(text);
  return Array.from({ length: all.length / PIXELS }, (_, index) => all.subarray(index * PIXELS, (index + 1) * PIXELS));
};

function drawData() {
  const { counts, means, distorted } = content.data;
  const [train, test] = [counts.train, counts.test].map((each) => each.reduce((sum, count) => sum + count, 0));
  byId("data-words").textContent =
    `${number(train)} training images and ${number(test)} test images of ${HEIGHT}×${WIDTH} pixels in ${CLASSES.length} classes; ` +
    `${number(Math.min(...counts.train))} to ${number(Math.max(...counts.train))} training images of each ${NOUN}.`;
  byId("counts").replaceChildren(
    bars(CLASSES, counts.train, counts.train.map((count, index) => `${number(count)} + ${number(counts.test[index])}`), {
      limit: Math.max(...counts.train),
    }),
    element("p", { className: "muted" }, "training + test images"),
  );
  byId("means-title").textContent = `Mean image of each ${NOUN}`;
  byId("means").replaceChildren(...imagesOf(means).map((pixels, index) => imageFigure(pixels, CLASSES[index])));
  byId("distorted-words").textContent =
    "In every epoch, each training image is rotated, scaled, sheared, shifted and warped at random, so that the network never sees " +
    "the same image twice. Each row shows an original image and five augmented versions of it.";
  const images = imagesOf(distorted.images);
  byId("distorted").replaceChildren(
    ...Array.from({ length: distorted.rows }, (_, row) => {
      const shown = images.slice(row * distorted.columns, (row + 1) * distorted.columns);
      return element("div", { className: "strip" }, ...shown.map((pixels, index) => imageFigure(pixels, index ? "augmented" : "original", false)));
    }),
  );
}

function imageFigure(pixels, name, captioned = true) {
  const canvas = element("canvas");
  paintImage(canvas, pixels);
  const created = figure(canvas, name, false);
  if (!captioned) created.lastChild.remove();
  return created;
}
