"use strict";
// All photos as a grid, of which only what is near the window is drawn. The address tells the size, so that Back leads back.

const SIZES = {small: 160, medium: 480, large: 1280};  // of the cells, with a picture's longest side in pixels
const [main, grid, view, bar] = ["work", "grid", "view", "bar"].map(id => document.getElementById(id));
const places = [at.problem, at.said].map(line => [line, document.createComment("")]);  // lines, and where they are beside one photo
let cells = new Map();  // those that are drawn, by the photo's id
let active = null, size = "medium";  // the photo that keys mean, and the grid's size, also while one photo is shown

const isGrid = () => main.dataset.view !== "one";
const STATES = {unsure: "unsaved", untouched: "unsaved", described: "has a text", accepted: "✓ accepted", corrected: "✎ corrected"};

// How many cells a row has, and how many pixels from one row to the next.
function measure() {
  const looks = getComputedStyle(grid);
  return {columns: looks.gridTemplateColumns.split(" ").length, tall: parseFloat(looks.gridAutoRows) + parseFloat(looks.rowGap)};
}

function sureness(photo) {
  if (!kinds.alone(photo)) return "";
  const percent = photo.confidence === null ? photo.unsure ? "unsure" : "" : `${Math.round(100 * photo.confidence)} %`;
  return photo.unsure ? `? ${percent}` : percent;
}

function cellOf(photo) {
  const was = cells.get(photo.id), side = SIZES[size], draft = drafts.get(photo.name)?.text;
  if (was && was.photo === photo && was.side === side && was.draft === draft) return was;
  const cell = make("div", {role: "option", id: `cell${photo.id}`, class: describe(photo), title: photo.name},
    make("span", {class: "tick", title: "Select"}), make("img", {src: picture(photo, side), alt: photo.name}),
    make("span", {class: "words"}, draft ?? start(photo)),
    make("span", {class: "state"}, make("span", {}, draft === undefined ? STATES[describe(photo)] : "typed, not saved"),
      make("span", {title: "How likely the model's caption is right"}, sureness(photo))));
  cell.dataset.id = photo.id;
  return {photo, side, draft, cell};
}

function drawGrid() {
  if (!isGrid()) return;
  grid.hidden = !list.length;
  if (grid.hidden) return;
  if (!list.some(photo => photo.id === active)) active = list.some(photo => photo.id === current) ? current : list[0].id;
  const {columns, tall} = measure(), rows = Math.ceil(list.length / columns), above = -grid.getBoundingClientRect().top;
  const [first, last] = [above - innerHeight, above + 2 * innerHeight].map(y => Math.min(rows, Math.max(0, Math.round(y / tall))));
  const some = list.slice(first * columns, last * columns);
  grid.style.paddingBlock = `${first * tall}px ${(rows - last) * tall}px`;
  cells = new Map(some.map(photo => [photo.id, cellOf(photo)]));
  const drawn = [...cells.values()].map(({cell}) => cell);
  drawn.forEach((cell, i) => {
    const id = +cell.dataset.id;
    cell.classList.toggle("active", id === active);
    for (const [name, value] of [["selected", selected.has(id)], ["posinset", first * columns + i + 1], ["setsize", list.length]])
      cell.setAttribute(`aria-${name}`, value);
  });
  if (drawn.length !== grid.children.length || drawn.some((cell, i) => cell !== grid.children[i])) grid.replaceChildren(...drawn);
  if (cells.has(active)) grid.setAttribute("aria-activedescendant", `cell${active}`);
  else grid.removeAttribute("aria-activedescendant");
}

// Let keys mean a photo, and bring it into sight.
function activate(id) {
  active = id;
  const {columns, tall} = measure(), row = Math.floor(list.findIndex(photo => photo.id === id) / columns);
  const y = grid.getBoundingClientRect().top + row * tall;
  const top = Math.max(0, document.querySelector("header").getBoundingClientRect().bottom) + 8;
  const bottom = Math.min(innerHeight, bar.getBoundingClientRect().top);
  if (y < top) scrollBy(0, y - top);
  else if (y + tall > bottom) scrollBy(0, Math.min(y - top, y + tall - bottom));
  drawGrid();
}

// Show what the address asks for: the grid in a size, or one photo.
function arrangeView() {
  const wanted = location.hash.slice(1), was = document.activeElement, before = isGrid();
  main.dataset.view = view.value = Object.hasOwn(SIZES, wanted) ? wanted : "one";
  if (isGrid()) size = wanted;
  else grid.hidden = true;
  for (const [line, place] of places) {
    if (!place.isConnected) line.before(place);
    if (isGrid()) bar.prepend(line);
    else place.after(line);
  }
  if (known.run === undefined) return;  // the photos come later
  refresh();
  if (isGrid() && list.length) activate(before ? active : current);
  if (was !== view) (isGrid() ? grid : at.stage).focus({preventScroll: true});
}

function openPhoto(id) {
  go(id);
  scrollTo(0, 0);
  location.hash = "one";
}

function switchView() {
  if (isGrid() && list.length) openPhoto(active);
  else location.hash = isGrid() ? "one" : size;
}

view.addEventListener("change", () => { location.hash = view.value; });
window.addEventListener("hashchange", arrangeView);
window.addEventListener("scroll", drawGrid, {passive: true});
new ResizeObserver(drawGrid).observe(bar);
arrangeView();
