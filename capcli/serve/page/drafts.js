"use strict";
// What was typed and not saved, and what can be undone, kept by the tab: a reload loses neither.

const drafts = new Map();  // by the photo's name, {text, from}: from is the saved text that it began with
const undoable = [], redoable = [];  // numbers of saves, and {id, caption} of photos, a list of them for each step
const KEPT = `capcli ${document.querySelector("main").dataset.list}`;

function keepDrafts() {
  try {
    sessionStorage.setItem(KEPT, JSON.stringify({run: known.run, drafts: [...drafts], undoable, redoable}));
  } catch {}  // no room, or not allowed: the page works without
}

function recallDrafts() {
  const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
  for (const [name, draft] of kept?.drafts ?? []) drafts.set(name, draft);
  if (kept?.run !== known.run) return;  // what another run saved has other numbers
  undoable.push(...kept.undoable);
  redoable.push(...kept.redoable);
}

// Keep what is in the field, or forget it where it is what was there anyway.
function typed() {
  const photo = photos.get(current), from = drafts.get(photo.name)?.from ?? photo.saved;
  if (at.field.value === start(photo)) drafts.delete(photo.name);
  else drafts.set(photo.name, {text: at.field.value, from});
  keepDrafts();
}

at.field.addEventListener("input", typed);
window.addEventListener("beforeunload", event => { if (drafts.size) event.preventDefault(); });
