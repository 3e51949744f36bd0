"use strict";
// Selecting photos in the grid, by mouse and keyboard, and the bar that says what is selected.

const selected = new Set();  // ids; only of photos that are shown
let anchor = null, base = new Set();  // where a range begins, and what was selected besides it
const controls = Object.fromEntries(["selection", "every", "none", "acceptMeant", "undoGrid", "redoGrid"].map(id => [id, document.getElementById(id)]));

// The photos that a command for several means: those selected, or else all that are shown.
const meant = () => isGrid() && selected.size ? list.filter(photo => selected.has(photo.id)) : list;

function drawBar() {
  const shown = new Set(list.map(photo => photo.id));
  for (const id of selected) if (!shown.has(id)) selected.delete(id);  // nothing happens to what nobody sees
  controls.selection.textContent = `${selected.size} of ${list.length} selected`;
  controls.every.disabled = selected.size === list.length;
  controls.none.disabled = !selected.size;
  at.accept.textContent = controls.acceptMeant.textContent = `Accept ${isGrid() && selected.size ? "selected" : "shown"} (${acceptable().length})`;
  at.accept.disabled = controls.acceptMeant.disabled = !acceptable().length;
  controls.undoGrid.disabled = at.undo.disabled;
  controls.redoGrid.disabled = at.redo.disabled;
}

function select(...wanted) {
  selected.clear();
  for (const id of wanted) selected.add(id);
  drawBar();
  drawGrid();
}

function toggle(id) {
  base = new Set(selected);
  if (!base.delete(id)) base.add(id);
  anchor = id;
  select(...base);
}

// Select from the anchor to a photo, besides what was selected before.
function selectTo(id) {
  const [from, to] = [anchor ?? active, id].map(each => list.findIndex(photo => photo.id === each));
  if (anchor === null) base = new Set(selected);
  anchor ??= active;
  select(...base, ...list.slice(Math.min(from, to), Math.max(from, to) + 1).map(photo => photo.id));
}

function selectAll() {
  anchor = null;
  select(...list.map(photo => photo.id));
}

function selectNone() {
  anchor = null;
  select();
}

// Which photo a key leads to; undefined where there is none.
function reached(key) {
  const index = list.findIndex(photo => photo.id === active), {columns, tall} = measure(), last = list.length - 1;
  const page = columns * Math.max(1, Math.floor(innerHeight / tall) - 1);
  const by = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, PageUp: -page, PageDown: page, Home: -index, End: last - index}[key];
  const down = by > 1 && Math.floor(index / columns) < Math.floor(last / columns);
  return list[down ? Math.min(last, index + by) : index + by] ?? (by < -columns ? list[index % columns] : undefined);
}

function press(event) {
  const {key, target} = event, many = event.ctrlKey || event.metaKey;
  if (!isGrid() || event.altKey || !list.length || document.querySelector("dialog[open]") || target.matches?.("input, select, textarea")) return;
  if (many && key.toLowerCase() === "a") selectAll();
  else if (key === "Escape") selectNone();
  else if (many || target.closest?.("button, a, summary, pre")) return;
  else if (key === "Enter") openPhoto(active);
  else if (key === " ") toggle(active);
  else if (["Home", "End"].includes(key) || /^(Arrow|Page)/.test(key)) {
    const photo = reached(key);
    if (photo && event.shiftKey) selectTo(photo.id);
    else anchor = null;
    if (photo) activate(photo.id);
  } else return;
  event.preventDefault();
  if (document.activeElement !== grid && isGrid() && !target.closest("button, a, summary")) grid.focus({preventScroll: true});
}

grid.addEventListener("click", event => {
  const id = +event.target.closest("[role=option]")?.dataset.id;
  if (Number.isNaN(id)) return;
  if (event.shiftKey) selectTo(id);
  else if (event.ctrlKey || event.metaKey || event.target.matches(".tick")) toggle(id);
  else return openPhoto(id);
  activate(id);
});
grid.addEventListener("mousedown", event => { if (event.shiftKey) event.preventDefault(); });  // which would select text
document.addEventListener("keydown", press);
controls.every.addEventListener("click", selectAll);
controls.none.addEventListener("click", selectNone);
controls.acceptMeant.addEventListener("click", () => accept());
controls.undoGrid.addEventListener("click", () => undo());
controls.redoGrid.addEventListener("click", () => redo());
