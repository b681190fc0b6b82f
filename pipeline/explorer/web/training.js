"use strict";
/* Replay of the training: a slider over the snapshots, and the curve of their accuracy. */

const FRAME = 900; // milliseconds per snapshot during play

class Training {
  constructor() {
    this.slider = byId("moment");
    this.slider.max = content.snapshots.length - 1;
    this.slider.addEventListener("input", () => {
      this.stop();
      showMoment(Number(this.slider.value));
    });
    byId("play").addEventListener("click", () => (this.timer ? this.stop() : this.play()));
    onChange((changed) => changed.has("network") && this.draw());
  }

  play() {
    byId("play").textContent = "Stop";
    const last = content.snapshots.length - 1;
    showMoment(state.moment === last ? 0 : state.moment);
    this.timer = setInterval(() => {
      if (state.moment === last) this.stop();
      else showMoment(state.moment + 1);
    }, FRAME);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    byId("play").textContent = "Play";
  }

  draw() {
    const { accuracy, loss } = content.snapshots[state.moment];
    const text = `${momentName(state.moment)}: test accuracy ${percent(accuracy, 2)}, test loss ${number(loss, 4)}`;
    this.slider.value = state.moment;
    this.slider.setAttribute("aria-valuetext", text);
    byId("moment-text").textContent =
      text[0].toUpperCase() + text.slice(1) + (state.taken.length ? `, before the ${steps(state.taken.length)} taken below` : "") + ".";
    this.curve();
  }

  /** Draw the accuracy of each snapshot, evenly spaced as on the slider. */
  curve() {
    const [left, right, top, bottom] = [60, 585, 12, 150];
    const last = content.snapshots.length - 1;
    const x = (moment) => left + ((right - left) * moment) / Math.max(1, last);
    const y = (accuracy) => bottom - (bottom - top) * accuracy;
    const parts = [0, 0.5, 1].map(
      (share) =>
        `<line x1="${left}" x2="${right}" y1="${y(share)}" y2="${y(share)}" stroke="${palette.line.text}"/>` +
        `<text x="${left - 8}" y="${y(share) + 4}" text-anchor="end">${100 * share} %</text>`,
    );
    const points = content.snapshots.map(({ accuracy }, moment) => `${x(moment)},${y(accuracy)}`);
    parts.push(`<polyline points="${points.join(" ")}" fill="none" stroke="${palette.accent.text}" stroke-width="2"/>`);
    content.snapshots.forEach(({ accuracy, epoch }, moment) => {
      const now = moment === state.moment;
      parts.push(
        `<circle cx="${x(moment)}" cy="${y(accuracy)}" r="${now ? 7 : 4}" fill="${palette.accent.text}"/>`,
        `<text x="${x(moment)}" y="${bottom + 20}" text-anchor="middle">${number(epoch, epoch > 0 && epoch < 1 ? 2 : 0)}</text>`,
      );
    });
    parts.push(`<text x="${(left + right) / 2}" y="${bottom + 40}" text-anchor="middle">epochs</text>`);
    byId("curve").innerHTML = parts.join("");
  }
}
