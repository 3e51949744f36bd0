"use strict";
// Saving the current caption, and undoing saves.
const saves = [];  // that can be undone; a list of numbers each
let conflict = false;  // whether the current photo was saved elsewhere meanwhile

const post = (path, value, options = {}) =>
  ask(path, {method: "POST", body: JSON.stringify(value), headers: {"Content-Type": "application/json"}, ...options});

function complain(error) {
  if (!(error instanceof Refused)) throw error;
  at.problem.textContent = error.message;
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
at.undo.addEventListener("click", undo);
window.addEventListener("beforeunload", event => { if (drafts.size) event.preventDefault(); });
