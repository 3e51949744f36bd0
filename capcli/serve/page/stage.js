"use strict";
// The photo that is worked on, its captions and the field.
const LARGE = 1280;  // pixels of a photo's longest side, as the server has them

const frame = at.photo.parentElement;
const picture = (photo, side) => `/photos/${photo.id}/${photo.content}/${side}`;
const readings = new Map();  // sentences with their heat, by id

function mark() {
  const photo = photos.get(current), index = list.findIndex(each => each.id === current);
  at.place.textContent = `${index + 1} of ${list.length}: ${photo.name}`;
  const texts = {unsure: "Unsure: more likely wrong than right.", untouched: "", described: `In ${photo.place}: ${photo.text}`, accepted: "Accepted.", corrected: `Saved: ${photo.saved}`};
  at.mark.textContent = texts[describe(photo)];
  at.mark.className = describe(photo);
  at.remove.hidden = photo.saved === null;
}

// Show a photo.
function go(id) {
  show(null);
  current = id;
  chosen = true;
  conflict = false;
  at.problem.textContent = "";
  at.own.replaceChildren();
  if (id === null) return;
  const photo = photos.get(id);
  at.photo.src = picture(photo, LARGE);
  at.photo.classList.toggle("late", !at.photo.complete);  // the one before would be taken for this one
  at.photo.alt = start(photo);
  at.field.value = drafts.get(photo.name)?.text ?? start(photo);
  mark();
  drawCandidates(photo);
  drawStrip();
  read(photo);
}

at.photo.addEventListener("load", () => {
  at.photo.classList.remove("late");
  shape(frame, at.photo.naturalWidth, at.photo.naturalHeight);
});

function drawCandidates(photo) {
  const said = readings.get(photo.id);
  at.candidates.replaceChildren(...photo.candidates.map((candidate, i) => {
    const take = make("button", {type: "button", class: "take", "aria-label": `Take caption ${i + 1}`, "aria-keyshortcuts": i + 1}, `${i + 1}`);
    take.addEventListener("click", () => choose(i));
    return make("li", {}, take, said ? sentence("span", said[i]) : make("span", {class: "caption"}, candidate.caption),
      make("span", {class: "score"}, candidate.score.toFixed(2)));
  }));
}

// Fetch the heat of a photo's captions.
async function read(photo) {
  if (readings.has(photo.id)) return;
  try {
    const said = await post(`/page/photos/${photo.id}/read`, {sentences: photo.candidates.map(c => c.caption)});
    if (readings.size > 200) readings.delete(readings.keys().next().value);
    readings.set(photo.id, said);
    if (photo.id === current && !at.candidates.contains(document.activeElement)) {
      show(null);
      drawCandidates(photo);
    }
  } catch (error) {
    complain(error);
  }
}

function choose(index) {
  const candidate = photos.get(current)?.candidates[index];
  if (!candidate) return;
  at.field.value = candidate.caption;
  typed();
  at.said.textContent = `Taken: ${candidate.caption}`;
}

function step(by) {
  if (!list.length) return;
  const index = list.findIndex(photo => photo.id === current) + by;
  if (index >= 0 && index < list.length) return go(list[index].id);
  const left = by > 0 && list.find(photo => photo.saved === null && photo.id !== current);  // less sure ones may have come
  if (left) go(left.id);
  else at.said.textContent = by > 0 ? "This is the last photo." : "This is the first photo.";
}

async function score() {
  const id = current, text = at.field.value.trim();
  if (!text) return;
  try {
    const [said] = await post(`/page/photos/${id}/read`, {sentences: [text]});
    if (id !== current) return;
    show(null);
    at.own.replaceChildren(sentence("p", said), make("p", {class: "note"}, said.note));
  } catch (error) {
    complain(error);
  }
}

at.score.addEventListener("click", score);
at.previous.addEventListener("click", () => step(-1));
at.next.addEventListener("click", () => step(1));
