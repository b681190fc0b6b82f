"use strict";

const AHEAD = 8; // images loaded before they are shown
const MOST_DIRECT = 10; // classes that a digit chooses

const $ = (id) => document.getElementById(id);
const page = { items: [], classes: [], at: 0, shown: false, history: [], progress: {}, busy: Promise.resolve(), finished: false };
const loaded = new Map(); // the images to come; without a reference, the browser may drop them

async function send(path, content) {
  let response;
  try {
    response = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(content) });
  } catch {
    throw new Error("Not saved: the server does not answer. `make label` starts it again; then answer once more. Earlier answers are safe.");
  }
  const found = await response.json();
  if (!response.ok) throw new Error(found.message);
  return found;
}

async function get(path) {
  try {
    return await (await fetch(path)).json();
  } catch {
    throw new Error("The server does not answer. `make label` starts it again.");
  }
}

// One thing after the other, in the order in which keys are pressed.
function inTurn(act) {
  page.busy = page.busy.then(act).then(
    () => {
      $("problem").hidden = true;
    },
    (error) => {
      $("problem").textContent = error.message;
      $("problem").hidden = false;
    },
  );
  return page.busy;
}

const single = () => page.classes.every((name) => [...name].length === 1);
const direct = () => page.classes.length <= MOST_DIRECT;

// The key that answers with a class at once, if there is one.
function keyOf(index) {
  if (single()) return page.classes[index];
  return direct() ? String((index + 1) % 10) : null;
}

function matching() {
  const typed = $("filter").value.trim().toLocaleLowerCase();
  const rank = (name) => (name === typed ? 0 : name.startsWith(typed) ? 1 : name.includes(typed) ? 2 : 3);
  const ranked = page.classes.map((name, index) => [rank(name.toLocaleLowerCase()), index]).filter(([found]) => found < 3);
  return ranked.sort((a, b) => a[0] - b[0] || a[1] - b[1]).map(([, index]) => index);
}

function buildClasses() {
  $("classes").replaceChildren(
    ...page.classes.map((name, index) => {
      const button = document.createElement("button");
      button.type = "button";
      const key = keyOf(index);
      if (key !== null && key !== name) {
        const shown = document.createElement("kbd");
        shown.textContent = key;
        button.append(shown, " ");
      }
      button.append(name);
      button.addEventListener("click", () => label(index));
      return button;
    }),
  );
  $("search").hidden = single();
  $("classes").classList.toggle("short", single());
  $("hint").textContent = single()
    ? "Press the key of the class, or choose it."
    : `${direct() ? "Press its digit, or type" : "Type"} the beginning of a name and press Enter, or choose it.`;
}

function showMatches() {
  const found = matching();
  [...$("classes").children].forEach((button, index) => {
    button.hidden = !found.includes(index);
    button.classList.toggle("first", $("filter").value.trim() !== "" && index === found[0]);
    button.style.order = found.indexOf(index);
  });
}

const open = (item) => item.answers.length === 0;
const source = (item) => `/images/${item.id}.png`;

function nextOpen(from) {
  for (let step = 0; step < page.items.length; step += 1) {
    const index = (from + step) % page.items.length;
    if (open(page.items[index])) return index;
  }
  return -1;
}

function preload() {
  let index = page.at;
  const kept = new Set();
  for (let count = 0; count < AHEAD && index < page.items.length; index += 1) {
    const item = page.items[index];
    if (!open(item)) continue;
    count += 1;
    kept.add(item.id);
    if (!loaded.has(item.id)) {
      const image = new Image();
      image.src = source(item);
      loaded.set(item.id, image);
    }
  }
  for (const id of loaded.keys()) if (!kept.has(id)) loaded.delete(id);
}

function hidePrediction() {
  page.shown = false;
  $("prediction").textContent = "Show prediction";
  $("show").setAttribute("aria-pressed", "false");
}

function render() {
  const { images, labelled, other, skipped, left, conflicts } = page.progress;
  const parts = [`${images - left} of ${images} answered`, `${labelled} labelled`];
  if (other) parts.push(`${other} of no class`);
  if (skipped) parts.push(`${skipped} skipped`);
  if (conflicts.length) parts.push(`${conflicts.length} labelled differently`);
  $("progress").textContent = parts.join(" · ");
  $("bar").max = images;
  $("bar").value = images - left;
  $("undo").disabled = page.history.length === 0;
  const item = page.items[page.at];
  $("labelling").hidden = item === undefined;
  $("done").hidden = item !== undefined;
  $("end").hidden = labelled === 0;
  $("unanswered").textContent = left ? `${left} images have no answer yet. Finishing leaves them out.` : "";
  $("review").hidden = skipped === 0;
  if (item) {
    if ($("image").dataset.id !== item.id) {
      $("image").dataset.id = item.id;
      $("image").src = source(item);
      hidePrediction();
      $("filter").value = "";
      showMatches();
    }
    preload();
  } else {
    $("headline").textContent = "All images are answered.";
    $("summary").textContent = skipped ? `${skipped} of them are skipped.` : "";
  }
  renderConflicts(conflicts);
}

function renderConflicts(conflicts) {
  $("conflicts").hidden = conflicts.length === 0;
  $("conflicting").replaceChildren(
    ...conflicts.map(({ id, answers }) => {
      const entry = document.createElement("li");
      const button = document.createElement("button");
      const image = document.createElement("img");
      button.type = "button";
      image.src = `/images/${id}.png`;
      image.alt = "";
      button.append(image, answers.join(" / "));
      button.addEventListener("click", () => inTurn(() => reopen([id])));
      entry.append(button);
      return entry;
    }),
  );
}

async function keep(item, answer) {
  page.progress = await send("/answers", { id: item.id, ...answer });
}

function answered(answer) {
  const wanted = page.items[page.at];
  return inTurn(async () => {
    const item = page.items[page.at];
    if (!item || page.finished || wanted === undefined) return;
    await keep(item, answer);
    item.answers = [answer];
    page.history.push(page.at);
    page.at = nextOpen(page.at);
    render();
  });
}

const label = (index) => answered({ kind: "label", label: page.classes[index] });

async function reopen(ids) {
  let first = -1;
  for (const id of ids) {
    const index = page.items.findIndex((item) => item.id === id);
    await keep(page.items[index], { kind: "undo" });
    page.items[index].answers = [];
    page.history = page.history.filter((each) => each !== index);
    if (first < 0) first = index;
  }
  page.at = first;
  render();
}

function undo() {
  inTurn(async () => {
    const index = page.history.at(-1);
    if (index !== undefined && !page.finished) await reopen([page.items[index].id]);
  });
}

function review() {
  inTurn(() => reopen(page.items.filter((item) => item.answers[0]?.kind === "skip").map((item) => item.id)));
}

function togglePrediction() {
  inTurn(async () => {
    const item = page.items[page.at];
    if (!item) return;
    if (page.shown) {
      hidePrediction();
      return;
    }
    const found = await get(`/predictions/${item.id}`);
    page.shown = true;
    $("prediction").textContent = `Prediction: ${found.label} (${(100 * found.probability).toFixed(1)} %)`;
    $("show").setAttribute("aria-pressed", "true");
  });
}

function finish() {
  inTurn(async () => {
    $("finish").disabled = true;
    try {
      const written = await send("/finish", {});
      page.finished = true;
      showWritten(written);
    } finally {
      $("finish").disabled = false;
    }
  });
}

function showWritten(written) {
  const lines = [`${written.file}: ${written.informative} informative and ${written.random} random images. It is listed in fetch.extra.`];
  if (written.other) lines.push(`${written.other} images are of no class; they are kept apart.`);
  if (written.conflicts.length) lines.push(`${written.conflicts.length} images were labelled differently and are left out.`);
  const report = written.live_accuracy;
  if (report) {
    const [low, high] = report.interval.map((value) => (100 * value).toFixed(1));
    lines.push(`Live accuracy of ${report.model}: ${(100 * report.accuracy).toFixed(1)} % [${low} %, ${high} %] on the random images.`);
  }
  if (written.problem) lines.push(written.problem);
  lines.push("The server has ended. `make retrain` commits this and learns from it.");
  for (const id of ["labelling", "conflicts", "end", "review"]) $(id).hidden = true;
  $("done").hidden = false;
  $("headline").textContent = `The data set ${written.set} is written.`;
  $("summary").textContent = lines.join("\n");
}

const KEYS = {
  ArrowUp: togglePrediction,
  ArrowDown: () => answered({ kind: "other" }),
  ArrowRight: () => answered({ kind: "skip" }),
  ArrowLeft: undo,
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || page.finished) return;
  const typed = $("filter").value !== "";
  if (KEYS[event.key] && !(typed && (event.key === "ArrowLeft" || event.key === "ArrowRight"))) {
    event.preventDefault();
    KEYS[event.key]();
  } else if (event.key === "Escape") {
    $("filter").value = "";
    showMatches();
  } else if (event.key === "Enter" && !single() && typed) {
    event.preventDefault();
    const found = matching();
    if (found.length) label(found[0]);
  } else if ([...event.key].length === 1 && page.items[page.at]) {
    const index = page.classes.findIndex((_, each) => keyOf(each) === event.key);
    if (index >= 0 && !typed) {
      event.preventDefault();
      label(index);
    } else if (!single() && document.activeElement !== $("filter") && event.key !== " ") {
      $("filter").focus(); // the letter goes there
    }
  }
}

async function start() {
  const found = await get("/items");
  page.items = found.items;
  page.classes = found.classes;
  page.progress = found;
  page.at = nextOpen(0);
  page.history = page.items.flatMap((item, index) => (item.answers.length ? [index] : []));
  buildClasses();
  render();
}

document.addEventListener("keydown", onKey);
$("filter").addEventListener("input", showMatches);
$("show").addEventListener("click", togglePrediction);
$("undo").addEventListener("click", undo);
$("other").addEventListener("click", KEYS.ArrowDown);
$("skip").addEventListener("click", KEYS.ArrowRight);
$("review").addEventListener("click", review);
$("finish").addEventListener("click", finish);
inTurn(start);
