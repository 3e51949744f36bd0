"use strict";
// Saving the current caption, and going back and forth between saves.

const AT_A_TIME = 100;  // photos that one request saves
let conflict = false;  // whether the current photo was saved elsewhere meanwhile

const send = (method, path, value, headers = {}) =>
  ask(path, {method, body: JSON.stringify(value), headers: {"Content-Type": "application/json", ...headers}});
const post = (path, value) => send("POST", path, value);

function complain(error) {
  if (!(error instanceof Refused)) throw error;
  at.problem.textContent = error.message;
}

// Say that a photo was saved elsewhere since its draft was begun; saving once more replaces that.
function disagree(photo, text) {
  drafts.set(photo.name, {text, from: photo.saved});
  keepDrafts();
  conflict = true;
  at.problem.textContent = `${photo.saved === null ? "This was undone" : `“${photo.saved}” was saved`} elsewhere meanwhile. Save again to replace that, or press Escape to keep it.`;
}

// Save the current photo's caption. text: null removes what was saved.
async function save(text = at.field.value) {
  const id = current, photo = photos.get(id), index = list.findIndex(each => each.id === id), draft = drafts.get(photo?.name);
  if (id === null || at.save.disabled) return;
  if (draft && draft.from !== photo.saved) return disagree(photo, draft.text);
  at.save.disabled = true;
  at.problem.textContent = "";
  try {
    const answer = await send("PUT", `/page/photos/${id}`, {caption: text}, {"If-Match": `"${photo.tag}"`});
    learn(answer.photos);
    undoable.push([answer.save]);
    redoable.length = 0;
    drafts.delete(photo.name);
    keepDrafts();
    conflict = false;
    if (text === null) {
      go(current);
      refresh(index);
      at.said.textContent = `Removed: ${photo.saved}`;
    } else {
      if (document.activeElement === at.field) at.stage.focus({preventScroll: true});
      if (current === id) {
        arrange();
        if (list.some(each => each.id === id)) step(1);
        refresh(index);
      } else refresh();
      const said = `Saved: ${answer.photos[0].saved}`;
      at.said.textContent = current === id || current === null ? said : `${said}. Next: ${at.place.textContent}: ${at.field.value}`;
    }
    if (answer.problems.length) at.problem.textContent = `${text === null ? "Removed from" : "Saved in"} the corrections, but: ${answer.problems.join("; ")}`;
  } catch (error) {
    if (error instanceof Refused && error.status === 409) {
      learn(error.answer.conflicts);
      refresh(index);
      disagree(photos.get(id), text ?? start(photos.get(id)));
    } else complain(error);
  } finally {
    at.save.disabled = false;
  }
}

// Save captions of several photos, as one step. wanted: {id, tag, caption}s; see the server for one without caption.
async function saveSeveral(wanted) {
  const numbers = [], problems = [];
  let done = 0, conflicts = 0;
  at.problem.textContent = "";
  try {
    for (let begin = 0; begin < wanted.length; begin += AT_A_TIME) {
      const answer = await post("/page/save", {photos: wanted.slice(begin, begin + AT_A_TIME)});
      learn([...answer.photos, ...answer.conflicts]);
      if (answer.photos.length) numbers.push(answer.save);
      done += answer.photos.length;
      conflicts += answer.conflicts.length;
      problems.push(...answer.problems);
      at.said.textContent = `${done} of ${wanted.length} saved`;
    }
  } catch (error) {
    complain(error);
  }
  if (numbers.length) undoable.push(numbers);
  keepDrafts();
  if (conflicts) problems.push(`${conflicts} changed elsewhere meanwhile, and left as they are`);
  if (problems.length) at.problem.textContent = problems.slice(0, 5).join("; ") + (problems.length > 5 ? ` and ${problems.length - 5} more` : "");
}

async function undo() {
  const numbers = undoable.pop();
  at.undo.disabled = !undoable.length;
  if (!numbers) return;
  at.problem.textContent = "";
  const were = new Map(photos), changed = [], problems = [];
  try {
    for (const save of numbers.reverse()) {
      const answer = await post("/page/undo", {save});
      learn(answer.photos);
      changed.push(...answer.photos);
      problems.push(...answer.problems);
    }
    for (const photo of changed) drafts.delete(photo.name);
    redoable.push(changed.map(({id}) => ({id, caption: were.get(id).saved})));
    arrive(changed, "Undone");
    if (problems.length) at.problem.textContent = problems.join("; ");
  } catch (error) {
    if (error instanceof Refused && error.status === 409) {
      learn(error.answer.conflicts);
      refresh();
      at.problem.textContent = "Not undone: it was changed elsewhere meanwhile.";
    } else complain(error);
  }
  keepDrafts();
}

async function redo() {
  const wanted = redoable.pop();
  at.redo.disabled = !redoable.length;
  if (!wanted) return;
  await saveSeveral(wanted.map(each => ({...each, tag: photos.get(each.id).tag})));
  arrive(wanted.map(({id}) => photos.get(id)), "Done again");
}

// Go to the last of the photos that a step changed.
function arrive(changed, what) {
  const last = changed.at(-1);
  arrange();
  go(list.some(photo => photo.id === last.id) ? last.id : current);
  refresh();
  at.said.textContent = `${what}: ${last.name}${changed.length > 1 ? ` and ${changed.length - 1} more` : ""}`;
}

function giveUp() {  // on a text that was not saved
  const photo = photos.get(current);
  if (!photo) return;
  if (conflict) {
    drafts.delete(photo.name);
    keepDrafts();
    go(current);
  }
  if (document.activeElement === at.field) at.stage.focus({preventScroll: true});
}

at.edit.addEventListener("submit", event => { event.preventDefault(); save(); });
at.undo.addEventListener("click", undo);
at.redo.addEventListener("click", redo);
at.remove.addEventListener("click", () => save(null));
