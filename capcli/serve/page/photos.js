"use strict";
// The photos of the folder as the server tells of them, and which of them are shown, in which order.

const ids = "count progress filter search nothing stage photo place mark candidates edit field save score undo own problem previous next accept strip said keys failures sure question";
const at = Object.fromEntries(ids.split(" ").map(id => [id, document.getElementById(id)]));
const photos = new Map();  // by id
const drafts = new Map();  // what was typed and not saved, by id
let change = 0, known = {all: 0, done: 0, listed: false, complete: false}, list = [], current = null;

const best = photo => photo.candidates[0].caption;
const kinds = {
  all: () => true,
  unsure: photo => photo.unsure,
  untouched: photo => photo.saved === null,
  corrected: photo => photo.saved !== null && photo.saved !== best(photo),
  accepted: photo => photo.saved !== null && photo.saved === best(photo),
};
// The least sure first: those that are more likely wrong than right, then by score.
const order = (a, b) => b.unsure - a.unsure || a.candidates[0].score - b.candidates[0].score || a.id - b.id;

function arrange() {
  const words = at.search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const holds = photo => {
    const text = [photo.name, photo.saved ?? "", ...photo.candidates.map(c => c.caption)].join(" ").toLowerCase();
    return words.every(word => text.includes(word));
  };
  list = [...photos.values()].filter(p => p.candidates.length && kinds[at.filter.value](p) && holds(p)).sort(order);
}

function describe(photo) {
  if (photo.saved === null) return photo.unsure ? "unsure" : "untouched";
  return kinds.accepted(photo) ? "accepted" : "corrected";
}

function learn(changed) {
  for (const photo of changed) photos.set(photo.id, photo);
}
