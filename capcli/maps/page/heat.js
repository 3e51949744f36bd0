"use strict";
const COLORS = JSON.parse(document.getElementById("colors").textContent);  // red, green, blue, opacity
const CELL = 16;  // pixels of the canvas per cell of the grid; the browser scales it to the picture
const scale = document.getElementById("scale"), drawn = [];
let shown = null, alike = word => [word];  // the words that are drawn with one

// How much each cell says about each pixel along one side: the two cells nearest to it and the second one's part.
function spread(cells, pixels, offset, smooth) {
  return Array.from({length: pixels}, (_, i) => {
    const place = Math.min(Math.max((i + .5) * cells / pixels - .5 - offset, 0), cells - 1);
    const low = Math.floor(smooth ? place : place + .5), part = smooth ? place - low : 0;
    return [low, Math.min(low + 1, cells - 1), part * (.5 + 1.5 * part - part * part)];
  });
}

function draw(word) {
  const sentence = word.parentElement, data = sentence.dataset;
  const [rows, columns] = data.grid.split(",").map(Number);
  const cells = Uint8Array.from(atob(word.dataset.heat), c => c.charCodeAt(0));
  const smooth = data.smooth === "1" && cells.filter(c => c > 0).length > 1;
  const down = spread(rows, rows * CELL, +data.offset, smooth);
  const across = spread(columns, columns * CELL, +data.offset, smooth);
  const strength = scale.checked ? +word.dataset.strength : 1;
  const canvas = document.createElement("canvas");
  canvas.setAttribute("aria-hidden", "true");
  canvas.width = across.length;
  canvas.height = down.length;
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  let at = 0;
  for (const [top, bottom, y] of down) for (const [left, right, x] of across) {
    const upper = cells[top * columns + left] * (1 - x) + cells[top * columns + right] * x;
    const lower = cells[bottom * columns + left] * (1 - x) + cells[bottom * columns + right] * x;
    image.data.set(COLORS[Math.round((upper * (1 - y) + lower * y) * strength)], at);
    at += 4;
  }
  context.putImageData(image, 0, 0);
  word.closest(".card").querySelector(".frame").append(canvas);
  drawn.push(canvas);
}

function show(word) {
  if (shown) {
    shown.classList.remove("on");
    shown.closest(".card").querySelector(".status").textContent = "";
  }
  shown = word;
  for (const canvas of drawn.splice(0)) canvas.remove();
  if (!word) return;
  word.classList.add("on");
  word.closest(".card").querySelector(".status").textContent = `${word.firstChild.data}: ${word.getAttribute("aria-description")}`;
  alike(word).forEach(draw);
}

const wordAt = event => event.target.closest?.(".w[data-heat]");
const focused = () => document.activeElement?.matches(".w[data-heat]") ? document.activeElement : null;
document.addEventListener("pointerover", event => { if (wordAt(event)) show(wordAt(event)); });
document.addEventListener("pointerout", event => {
  if (event.pointerType === "mouse" && wordAt(event) && !event.relatedTarget?.closest?.(".caption, .others")) show(focused());
});
document.addEventListener("focusin", event => {
  const word = wordAt(event) ?? null;
  if (word) for (const each of word.parentElement.querySelectorAll(".w")) each.tabIndex = each === word ? 0 : -1;  // a caption is one tab stop
  show(word);
});
document.addEventListener("click", event => { if (wordAt(event)) show(wordAt(event)); });

// The card below (step 1) or above (-1) another in the grid.
function beyond(card, step) {
  const shown = card.popover ? [] : [...document.querySelectorAll(".card:not([hidden])")], last = shown.at(-1);
  const columns = shown.filter(each => each.offsetTop === shown[0].offsetTop).length;
  return shown[shown.indexOf(card) + step * columns] ?? (step > 0 && last?.offsetTop > card.offsetTop ? last : null);
}

// The caption below or above another: of its own card, or of the next that has words.
function captionBeyond(caption, step) {
  const of = card => [...card.querySelectorAll(".caption:has(.w)")];
  let card = caption.closest(".card"), found = of(card)[of(card).indexOf(caption) + step];
  while (!found && (card = beyond(card, step))) found = of(card).at(step > 0 ? 0 : -1);
  return found;
}

const STEPS = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1};
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;  // these are the browser's: Alt and left arrow go back
  if (event.key === "Escape") {
    show(null);
  } else if (event.key in STEPS && event.target.matches?.(".w")) {
    const step = STEPS[event.key], words = [...event.target.closest(".card").querySelectorAll(".w")];
    const next = event.key === "ArrowLeft" || event.key === "ArrowRight" ? words[words.indexOf(event.target) + step]
      : captionBeyond(event.target.parentElement, step)?.querySelector(".w");
    next?.focus();
    event.preventDefault();
  }
});
scale.addEventListener("change", () => shown && show(shown));
