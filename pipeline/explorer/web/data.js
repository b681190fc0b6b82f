"use strict";
/* The data: how much of each class there is, the average image of each, and what training makes of some. */

const imagesOf = (text) => {
  const all = bytes(text);
  return Array.from({ length: all.length / PIXELS }, (_, place) => all.subarray(place * PIXELS, (place + 1) * PIXELS));
};

function drawData() {
  const { counts, means, distorted } = content.data;
  const [train, test] = [counts.train, counts.test].map((each) => each.reduce((sum, count) => sum + count, 0));
  byId("data-words").textContent =
    `${number(train)} images to learn from and ${number(test)} to be tested on, ` +
    `each ${HEIGHT}×${WIDTH} pixels and of one of ${CLASSES.length} classes: ` +
    `${number(Math.min(...counts.train))} to ${number(Math.max(...counts.train))} training images of each ${NOUN}.`;
  byId("counts").replaceChildren(
    bars(CLASSES, counts.train, counts.train.map((count, place) => `${number(count)} + ${number(counts.test[place])}`), {
      limit: Math.max(...counts.train),
    }),
    element("p", { className: "muted" }, "training + test images"),
  );
  byId("means-title").textContent = `The average ${NOUN === "digit" ? "digit" : "image of each class"}`;
  byId("means").replaceChildren(...imagesOf(means).map((pixels, place) => imageFigure(pixels, CLASSES[place])));
  byId("distorted-words").textContent =
    "In each epoch every image is turned, scaled, sheared, shifted and warped a little, anew each time, so that the network never " +
    "sees the same one twice. At the left of each row one image as it is, then as training saw it.";
  const images = imagesOf(distorted.images);
  byId("distorted").replaceChildren(
    ...Array.from({ length: distorted.rows }, (_, row) => {
      const shown = images.slice(row * distorted.columns, (row + 1) * distorted.columns);
      return element("div", { className: "strip" }, ...shown.map((pixels, place) => imageFigure(pixels, place ? "distorted" : "as it is", false)));
    }),
  );
}

function imageFigure(pixels, name, captioned = true) {
  const canvas = element("canvas");
  paintImage(canvas, pixels);
  const made = figure(canvas, name, false);
  if (!captioned) made.lastChild.remove();
  return made;
}
