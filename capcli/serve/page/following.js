"use strict";
// Keeping the page up to date.

let chosen = false;  // whether the person has gone to a photo; until then, the first unsaved one is shown

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
  at.undo.disabled = !undoable.length;
  at.redo.disabled = !redoable.length;
  const waits = !chosen && photos.get(current)?.saved != null && list.some(photo => photo.saved === null);
  if (waits || !list.some(photo => photo.id === current)) {
    const before = chosen;
    go(list[Math.min(place, list.length - 1)]?.id ?? null);
    chosen = before;
  } else mark();
  drawStrip();
  drawBar();
  drawGrid();
}

// Ask again and again what has changed: more often while photos are captioned.
async function follow() {
  let lost = false;
  for (;;) {
    try {
      const answer = await ask(`/page/photos?since=${change}`);
      const before = photos.get(current), first = known.run === undefined;
      if (answer.run !== (known.run ?? answer.run)) {  // its numbers are of other photos
        at.problem.textContent = "capcli serve was restarted: reload this page.";
        return;
      }
      ({change} = answer);
      if (lost) at.problem.textContent = "";
      lost = false;
      known = answer;
      if (first) recallDrafts();
      learn(answer.photos);
      if (answer.photos.length || answer.complete !== at.progress.hidden) {
        refresh();
        const now = photos.get(current);
        if (before && now?.id === before.id && (now.tag !== before.tag || best(now) !== best(before)) && !drafts.has(now.name)) go(current);
      }
    } catch (error) {
      lost = true;
      complain(error);
    }
    await pause(known.complete ? 3 : 1);
  }
}

at.filter.addEventListener("change", () => refresh());
at.search.addEventListener("input", () => refresh());
follow();
