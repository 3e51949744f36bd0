"use strict";
const SMALL = 160, LARGE = 1280;  // pixels of a photo's longest side, as the server has them
const AROUND = 12;  // photos of the strip on either side of the current one
const AT_A_TIME = 100;  // photos that one request accepts
const ids = "count progress filter search nothing stage photo place mark candidates edit field save score undo own problem previous next accept strip said keys failures sure question";
const at = Object.fromEntries(ids.split(" ").map(id => [id, document.getElementById(id)]));
const frame = at.photo.parentElement;
const photos = new Map();  // by id
const drafts = new Map();  // what was typed and not saved, by id
const readings = new Map();  // sentences with their heat, by id
const saves = [];  // that can be undone; a list of numbers each
let change = 0, known = {all: 0, done: 0, listed: false, complete: false}, list = [], current = null, conflict = false;

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

// Bring the page up to date. place: the index to go to if the current photo is not shown any more.
function refresh(place = 0) {
  arrange();
  const ready = [...photos.values()].filter(photo => photo.candidates.length), failed = [...photos.values()].filter(photo => photo.error);
  const saved = ready.filter(photo => photo.saved !== null).length;
  const parts = [known.complete ? `${ready.length} ${ready.length === 1 ? "photo" : "photos"}` : `${known.done} of ${known.listed ? "" : "at least "}${known.all} captioned`];
  parts.push(`${saved} saved`);
  if (list.length < ready.length) parts.push(`${list.length} shown`);
  if (failed.length) parts.push(`${failed.length} failed`);
  at.count.textContent = parts.join(", ");
  at.progress.hidden = known.complete;
  at.progress.max = Math.max(1, known.all);
  at.progress.value = known.done;
  at.failures.hidden = !failed.length;
  at.failures.querySelector("ul").replaceChildren(...failed.map(photo => make("li", {}, `${photo.name}: ${photo.error}`)));
  at.nothing.textContent = ready.length ? "No photo is like that." : known.complete ? "There is no photo here." : "No photo has a caption yet.";
  at.nothing.hidden = list.length > 0;
  at.stage.hidden = !list.length;
  at.accept.textContent = `Accept shown (${list.filter(kinds.untouched).length})`;
  at.accept.disabled = !list.some(kinds.untouched);
  at.undo.disabled = !saves.length;
  if (!list.some(photo => photo.id === current)) go(list[Math.min(place, list.length - 1)]?.id ?? null);
  else mark();
  drawStrip();
}

function describe(photo) {
  if (photo.saved === null) return photo.unsure ? "unsure" : "untouched";
  return kinds.accepted(photo) ? "accepted" : "corrected";
}

function mark() {
  const photo = photos.get(current), index = list.findIndex(each => each.id === current);
  at.place.textContent = `${index + 1} of ${list.length}: ${photo.name}`;
  const texts = {unsure: "Unsure: more likely wrong than right.", untouched: "", accepted: "Accepted.", corrected: `Saved: ${photo.saved}`};
  at.mark.textContent = texts[describe(photo)];
  at.mark.className = describe(photo);
}

// Show a photo.
function go(id) {
  show(null);
  current = id;
  conflict = false;
  at.problem.textContent = "";
  at.own.replaceChildren();
  if (id === null) return;
  const photo = photos.get(id);
  at.photo.src = `/photos/${id}/${photo.content}/${LARGE}`;
  at.photo.alt = photo.saved ?? best(photo);
  at.field.value = drafts.get(id) ?? photo.saved ?? best(photo);
  mark();
  drawCandidates(photo);
  drawStrip();
  read(photo);
}

at.photo.addEventListener("load", () => shape(frame, at.photo.naturalWidth, at.photo.naturalHeight));

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

function drawStrip() {
  const index = list.findIndex(photo => photo.id === current);
  const first = Math.max(0, index - AROUND), some = list.slice(first, index + AROUND + 1);
  const wanted = some.map(photo => `${photo.id} ${photo.tag} ${photo.id === current}`).join();
  if (at.strip.dataset.shows === wanted) return;
  const focused = document.activeElement?.closest?.("#strip button")?.dataset.id;
  at.strip.dataset.shows = wanted;
  at.strip.replaceChildren(...some.map(photo => {
    const button = make("button", {type: "button", class: describe(photo), "aria-current": photo.id === current ? "true" : null, title: photo.name},
      make("img", {src: `/photos/${photo.id}/${photo.content}/${SMALL}`, alt: `${photo.name}, ${describe(photo)}`, loading: "lazy"}));
    button.dataset.id = photo.id;
    button.addEventListener("click", () => go(photo.id));
    return make("li", {}, button);
  }));
  const active = at.strip.querySelector("[aria-current]");
  if (active) at.strip.scrollLeft = active.offsetLeft - at.strip.clientWidth / 2 + active.clientWidth / 2;
  if (focused) at.strip.querySelector(`[data-id="${focused}"]`)?.focus();
}

const post = (path, value, options = {}) =>
  ask(path, {method: "POST", body: JSON.stringify(value), headers: {"Content-Type": "application/json"}, ...options});

function complain(error) {
  if (!(error instanceof Refused)) throw error;
  at.problem.textContent = error.message;
}

function learn(changed) {
  for (const photo of changed) photos.set(photo.id, photo);
}

function choose(index) {
  const candidate = photos.get(current)?.candidates[index];
  if (!candidate) return;
  at.field.value = candidate.caption;
  typed();
  at.said.textContent = `Taken: ${candidate.caption}`;
}

function typed() {
  const photo = photos.get(current);
  if (at.field.value === (photo.saved ?? best(photo))) drafts.delete(current);
  else drafts.set(current, at.field.value);
}

function step(by) {
  if (!list.length) return;
  const index = list.findIndex(photo => photo.id === current) + by;
  if (index >= 0 && index < list.length) return go(list[index].id);
  const left = by > 0 && list.find(photo => photo.saved === null && photo.id !== current);  // less sure ones may have come
  if (left) go(left.id);
  else at.said.textContent = by > 0 ? "This is the last photo." : "This is the first photo.";
}

async function save() {
  const id = current, photo = photos.get(id), text = at.field.value, index = list.findIndex(each => each.id === id);
  if (id === null || at.save.disabled) return;
  at.save.disabled = true;
  at.problem.textContent = "";
  try {
    const headers = {"Content-Type": "application/json", "If-Match": `"${photo.tag}"`};
    const answer = await ask(`/page/photos/${id}`, {method: "PUT", body: JSON.stringify({caption: text}), headers});
    learn(answer.photos);
    saves.push([answer.save]);
    drafts.delete(id);
    conflict = false;
    const said = `Saved: ${answer.photos[0].saved}`;
    if (document.activeElement === at.field) at.stage.focus({preventScroll: true});
    if (current === id) {
      arrange();
      if (list.some(each => each.id === id)) step(1);
      refresh(index);
    } else refresh();
    at.said.textContent = current === id || current === null ? said : `${said}. Next: ${at.place.textContent}: ${at.field.value}`;
    if (answer.problems.length) at.problem.textContent = `Saved in the corrections, but: ${answer.problems.join("; ")}`;
  } catch (error) {
    if (error instanceof Refused && error.status === 409) {
      learn(error.answer.conflicts);
      drafts.set(id, text);
      refresh(index);
      conflict = true;
      const theirs = photos.get(id).saved;
      at.problem.textContent = `${theirs === null ? "This was undone" : `“${theirs}” was saved`} elsewhere meanwhile. Save again to replace that, or press Escape to keep it.`;
    } else complain(error);
  } finally {
    at.save.disabled = false;
  }
}

async function undo() {
  const numbers = saves.pop();
  at.undo.disabled = !saves.length;
  if (!numbers) return;
  at.problem.textContent = "";
  try {
    let last = null;
    const problems = [];
    for (const save of numbers.reverse()) {
      const answer = await post("/page/undo", {save});
      learn(answer.photos);
      problems.push(...answer.problems);
      last = answer.photos.at(-1) ?? last;
      for (const photo of answer.photos) drafts.delete(photo.id);
    }
    arrange();
    go(list.some(photo => photo.id === last.id) ? last.id : current);
    refresh();
    at.said.textContent = `Undone: ${last.name}`;
    if (problems.length) at.problem.textContent = problems.join("; ");
  } catch (error) {
    if (error instanceof Refused && error.status === 409) {
      learn(error.answer.conflicts);
      refresh();
      at.problem.textContent = "Not undone: it was changed elsewhere meanwhile.";
    } else complain(error);
  }
}

async function accept() {
  const wanted = list.filter(kinds.untouched);
  at.question.textContent = `Accept the model's first caption of ${wanted.length === 1 ? "this photo" : `these ${wanted.length} photos`}?`;
  at.sure.returnValue = "";
  at.sure.showModal();
  await new Promise(resolve => at.sure.addEventListener("close", resolve, {once: true}));
  if (at.sure.returnValue !== "yes") return;
  const numbers = [], problems = [];
  let done = 0, conflicts = 0;
  at.problem.textContent = "";
  try {
    for (let begin = 0; begin < wanted.length; begin += AT_A_TIME) {
      const some = wanted.slice(begin, begin + AT_A_TIME).map(({id, tag}) => ({id, tag}));
      const answer = await post("/page/accept", {photos: some});
      learn([...answer.photos, ...answer.conflicts]);
      if (answer.photos.length) numbers.push(answer.save);
      done += answer.photos.length;
      conflicts += answer.conflicts.length;
      problems.push(...answer.problems);
      at.said.textContent = `${done} of ${wanted.length} accepted`;
    }
  } catch (error) {
    complain(error);
  }
  if (numbers.length) saves.push(numbers);
  if (conflicts) problems.push(`${conflicts} changed elsewhere meanwhile, and left as they are`);
  if (problems.length) at.problem.textContent = problems.slice(0, 5).join("; ") + (problems.length > 5 ? ` and ${problems.length - 5} more` : "");
  refresh();
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

function giveUp() {  // on a text that was not saved
  const photo = photos.get(current);
  if (!photo) return;
  if (conflict) {
    drafts.delete(current);
    go(current);
  }
  if (document.activeElement === at.field) at.stage.focus({preventScroll: true});
}

at.edit.addEventListener("submit", event => { event.preventDefault(); save(); });
at.field.addEventListener("input", typed);
at.score.addEventListener("click", score);
at.undo.addEventListener("click", undo);
at.previous.addEventListener("click", () => step(-1));
at.next.addEventListener("click", () => step(1));
at.accept.addEventListener("click", accept);
at.filter.addEventListener("change", () => refresh());
at.search.addEventListener("input", () => refresh());
const COMMANDS = {n: () => step(1), p: () => step(-1), u: undo, e: () => { at.field.focus(); at.field.select(); },
  "/": () => at.search.focus(), ArrowRight: () => step(1), ArrowLeft: () => step(-1)};
document.addEventListener("keydown", event => {
  if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || at.sure.open) return;
  const {key, target} = event;
  if (key === "Escape") return giveUp();
  if (target === at.field) {
    if (key !== "ArrowDown" && key !== "ArrowUp") return;
    event.preventDefault();
    return step(key === "ArrowDown" ? 1 : -1);
  }
  if (target.matches?.("input, select, textarea") || !at.keys.checked) return;
  if (key >= "1" && key <= "5") choose(+key - 1);
  else if (key === "Enter" && !target.closest?.("button, a, summary")) save();
  else if (key in COMMANDS && !(key.startsWith("Arrow") && target.matches?.(".w, pre"))) COMMANDS[key]();
  else return;
  event.preventDefault();
});
window.addEventListener("beforeunload", event => { if (drafts.size) event.preventDefault(); });

// Ask again and again what has changed: more often while photos are captioned.
async function follow() {
  let lost = false;
  for (;;) {
    try {
      const answer = await ask(`/page/photos?since=${change}`);
      const before = photos.get(current)?.tag;
      if (answer.run !== (known.run ?? answer.run)) {  // its numbers are of other photos
        at.problem.textContent = "capcli serve was restarted: reload this page.";
        return;
      }
      ({change} = answer);
      if (lost) at.problem.textContent = "";
      lost = false;
      known = answer;
      learn(answer.photos);
      if (answer.photos.length || answer.complete !== at.progress.hidden) {
        refresh();
        if (before && photos.get(current)?.tag !== before && !drafts.has(current)) go(current);
      }
    } catch (error) {
      lost = true;
      complain(error);
    }
    await pause(known.complete ? 3 : 1);
  }
}
follow();
