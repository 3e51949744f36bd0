"use strict";
const AT_ONCE = 4;  // photos that are on their way
const cards = document.getElementById("cards"), count = document.getElementById("count");
const chooser = document.getElementById("files"), drop = document.getElementById("drop");
const takeAlong = document.getElementById("take");
const waiting = [];
let running = 0, done = 0, failed = 0, number = 0;

function tell() {
  const left = waiting.length + running, parts = [`${done} ${done === 1 ? "photo" : "photos"} captioned`];
  if (left) parts.push(`${left} to go`);
  if (failed) parts.push(`${failed} failed`);
  count.textContent = parts.join(", ");
  takeAlong.hidden = !done;
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
    if (!file.size) throw new Refused(0, {error: "This file is empty. Was it copied or downloaded to its end?"});
    const photo = await ask(`/page/caption?name=${encodeURIComponent(file.name)}`, {method: "POST", body: file});
    fill(card, file, photo);
    keep(photo);
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
  const bestScore = make("span", {class: "score"}, best.score.toFixed(2));
  const list = make("ul", {class: "others", role: "list", "aria-label": "other captions, each after its score"});
  for (const other of others) list.append(make("li", {}, make("span", {class: "score"}, other.score.toFixed(2)), sentence("span", other)));
  const field = make("input", {id, class: "field", maxlength: 1000, autocomplete: "off", spellcheck: "true"});
  const own = make("div", {class: "own", role: "status"});
  const form = make("form", {class: "mine"}, make("label", {for: id}, "Your own sentence"), make("div", {class: "row"}, field, make("button", {}, "Score")), own);
  form.addEventListener("submit", event => {
    event.preventDefault();
    score(file, field.value.trim(), photo, card, own);
  });
  card.replaceChildren(
    make("div", {class: "view"}, frame),
    make("div", {class: "text"}, make("div", {class: "best"}, bestScore, sentence("p", best), copier(() => best.text)), ...(others.length ? [list] : []),
      ...(photo.judgement ? [make("p", {class: photo.unsure ? "unsure" : "keywords"}, photo.judgement)] : []),
      ...(photo.kinds ? [make("p", {class: "keywords"}, `Kinds: ${photo.kinds}`)] : []),
      form, make("p", {class: "status", "aria-hidden": "true"}), make("p", {class: "path"}, photo.name)));
}

// Score a person's sentence, and the captions anew: what one is to be compared with is on its scale.
async function score(file, text, photo, card, place) {
  if (!text) return;
  try {
    const query = new URLSearchParams([text, ...photo.sentences.map(said => said.text)].filter(Boolean).map(said => ["sentence", said]));
    const [read, ...captions] = await ask(`/page/explain?${query}`, {method: "POST", body: file});
    const fit = said => `fit ${said.fit < 0 ? "" : "+"}${said.fit.toFixed(2)}`;
    show(null);
    card.querySelectorAll(".best > .score, .others .score").forEach((place, i) => { if (captions[i]) place.textContent = fit(captions[i]); });
    place.replaceChildren(make("div", {class: "best"}, make("span", {class: "score"}, fit(read)), sentence("p", read), copier(() => text)),
      make("p", {class: "note"}, read.note));
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
document.addEventListener("drop", async event => {
  event.preventDefault();
  drop.classList.remove("over");
  const dropped = await filesOf(event.dataTransfer);
  if (dropped.length) take(dropped);
  else count.textContent = "There is no photo in what was dropped.";
});

document.getElementById("csv").addEventListener("click", () => download("captions.csv", "text/csv",
  asCsv([["file_path", "caption"], ...tried.map(photo => [photo.name, photo.sentences[0].text])])));
document.getElementById("json").addEventListener("click", () => download("captions.json", "application/json",
  JSON.stringify(tried.map(photo => ({file_path: photo.name, captions: photo.sentences.map(said => said.text)})), null, 1)));
document.getElementById("clear").addEventListener("click", () => {
  forget();
  show(null);
  cards.replaceChildren();
  done = failed = 0;
  tell();
});
for (const photo of recall()) {
  const card = make("li", {class: "card"});
  cards.prepend(card);
  fill(card, fileOf(photo), photo);
  tried.push(photo);
  done++;
}
if (done) tell();
