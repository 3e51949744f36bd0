"use strict";
const AT_ONCE = 4;  // photos that are on their way
const cards = document.getElementById("cards"), count = document.getElementById("count");
const chooser = document.getElementById("files"), drop = document.getElementById("drop");
const waiting = [];
let running = 0, done = 0, failed = 0, number = 0;

function tell() {
  const left = waiting.length + running, parts = [`${done} ${done === 1 ? "photo" : "photos"} captioned`];
  if (left) parts.push(`${left} to go`);
  if (failed) parts.push(`${failed} failed`);
  count.textContent = parts.join(", ");
}

function take(files) {
  const taken = [...files].map(file => [file, make("li", {class: "card", "aria-busy": "true"},
    make("div", {class: "text"}, make("p", {class: "path"}, `${file.name} …`)))]);
  cards.prepend(...taken.map(([, card]) => card));
  waiting.push(...taken);
  work();
}

async function work() {
  while (running < AT_ONCE && waiting.length) {
    const [file, card] = waiting.shift();
    running++;
    caption(file, card).finally(() => { running--; work(); });
  }
  tell();
}

async function caption(file, card) {
  try {
    fill(card, file, await ask(`/page/caption?name=${encodeURIComponent(file.name)}`, {method: "POST", body: file}));
    done++;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    card.replaceChildren(make("div", {class: "text"}, make("p", {class: "problem", role: "alert"}, error.message), make("p", {class: "path"}, file.name)));
    failed++;
  } finally {
    card.removeAttribute("aria-busy");
  }
}

function fill(card, file, photo) {
  const [best, ...others] = photo.sentences, id = `mine${number++}`;
  const frame = make("div", {class: "frame"}, make("img", {
    src: `data:image/jpeg;base64,${photo.picture}`, alt: best.text || photo.name, width: photo.width, height: photo.height}));
  shape(frame, photo.width, photo.height);
  const list = make("ul", {class: "others", role: "list", "aria-label": "other captions, each after its score"});
  for (const other of others) list.append(make("li", {}, make("span", {class: "score"}, other.score.toFixed(2)), sentence("span", other)));
  const field = make("input", {id, class: "field", maxlength: 1000, autocomplete: "off", spellcheck: "true"});
  const own = make("div", {class: "own", role: "status"});
  const form = make("form", {class: "mine"}, make("label", {for: id}, "Your own sentence"), make("div", {class: "row"}, field, make("button", {}, "Score")), own);
  form.addEventListener("submit", event => {
    event.preventDefault();
    score(file, field.value.trim(), own);
  });
  card.replaceChildren(
    make("div", {class: "view"}, frame),
    make("div", {class: "text"}, sentence("p", best), ...(others.length ? [list] : []),
      ...(photo.judgement ? [make("p", {class: photo.unsure ? "unsure" : "keywords"}, photo.judgement)] : []),
      ...(photo.kinds ? [make("p", {class: "keywords"}, `Kinds: ${photo.kinds}`)] : []),
      form, make("p", {class: "status", "aria-hidden": "true"}), make("p", {class: "path"}, photo.name)));
}

async function score(file, text, place) {
  if (!text) return;
  try {
    const [read] = await ask(`/page/explain?sentence=${encodeURIComponent(text)}`, {method: "POST", body: file});
    show(null);
    place.replaceChildren(sentence("p", read), make("p", {class: "note"}, read.note));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    place.replaceChildren(make("p", {class: "problem"}, error.message));
  }
}

function choose() {
  take(chooser.files);
  chooser.value = "";
}

chooser.addEventListener("change", choose);
if (chooser.files.length) choose();  // somebody was quicker than this script
document.addEventListener("paste", event => {
  if (event.clipboardData.files.length) take(event.clipboardData.files);
});
document.addEventListener("dragover", event => {
  event.preventDefault();
  drop.classList.add("over");
});
document.addEventListener("dragleave", event => { if (!event.relatedTarget) drop.classList.remove("over"); });
document.addEventListener("drop", event => {
  event.preventDefault();
  drop.classList.remove("over");
  take(event.dataTransfer.files);
});
