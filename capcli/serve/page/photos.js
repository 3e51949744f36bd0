"use strict";
// The photos of the folder as the server tells of them, and which of them are shown, in which order.

const ids = "count progress filter search nothing stage photo place mark candidates edit field save score undo redo remove own problem previous next accept strip said keys failures sure question meant";
const at = Object.fromEntries(ids.split(" ").map(id => [id, document.getElementById(id)]));
const photos = new Map();  // by id
let change = 0, known = {all: 0, done: 0, listed: false, complete: false}, list = [], current = null;

const best = photo => photo.candidates[0].caption;
const start = photo => photo.saved ?? photo.text ?? best(photo);  // what the field begins with
const kinds = {
  all: () => true,
  unsure: photo => photo.unsure,
  untouched: photo => photo.saved === null,
  text: photo => photo.text !== null,
  alone: photo => photo.text === null && photo.saved === null,
  differs: photo => (photo.saved ?? photo.text ?? best(photo)) !== best(photo),
  changed: photo => photo.before !== null && photo.before !== best(photo),
  corrected: photo => photo.saved !== null && photo.saved !== photo.said,
  accepted: photo => photo.saved !== null && photo.saved === photo.said,
};
// Photos without a text first, then those whose files have one, then those that were saved; of these the least sure.
// A save moves no photo: what a photo was when its caption came counts.
const rank = photo => photo.saved !== null ? 2 : photo.text !== null ? 1 : 0;
const order = (a, b) => a.rank - b.rank || b.unsure - a.unsure
  || (a.confidence ?? a.candidates[0].score) - (b.confidence ?? b.candidates[0].score) || a.id - b.id;

function arrange() {
  const words = at.search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const holds = photo => {
    const text = [photo.name, photo.saved ?? "", photo.text ?? "", ...photo.candidates.map(c => c.caption)].join(" ").toLowerCase();
    return words.every(word => text.includes(word));
  };
  list = [...photos.values()].filter(p => p.candidates.length && kinds[at.filter.value](p) && holds(p)).sort(order);
}

function describe(photo) {
  if (photo.saved === null) return photo.text !== null ? "described" : photo.unsure ? "unsure" : "untouched";
  return kinds.accepted(photo) ? "accepted" : "corrected";
}

function learn(changed) {
  for (const photo of changed) {
    const before = photos.get(photo.id);
    if (before?.candidates.length && best(before) !== best(photo)) readings.delete(photo.id);
    photo.rank = before?.candidates.length ? before.rank : rank(photo);
    photos.set(photo.id, photo);
  }
}
