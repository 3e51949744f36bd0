"use strict";
// The row of small pictures, the current one in the middle.
const SMALL = 160;  // pixels of a photo's longest side, as the server has them
const AROUND = 12;  // photos of the strip on either side of the current one

function drawStrip() {
  const index = list.findIndex(photo => photo.id === current);
  const first = Math.max(0, index - AROUND), some = list.slice(first, index + AROUND + 1);
  const wanted = some.map(photo => `${photo.id} ${photo.tag} ${photo.id === current}`).join();
  if (at.strip.dataset.shows === wanted) return;
  const focused = document.activeElement?.closest?.("#strip button")?.dataset.id;
  at.strip.dataset.shows = wanted;
  at.strip.replaceChildren(...some.map(photo => {
    const button = make("button", {type: "button", class: describe(photo), "aria-current": photo.id === current ? "true" : null, title: photo.name},
      make("img", {src: picture(photo, SMALL), alt: `${photo.name}, ${describe(photo) === "described" ? "has a text" : describe(photo)}`, loading: "lazy"}));
    button.dataset.id = photo.id;
    button.addEventListener("click", () => go(photo.id));
    return make("li", {}, button);
  }));
  const active = at.strip.querySelector("[aria-current]");
  if (active) at.strip.scrollLeft = active.offsetLeft - at.strip.clientWidth / 2 + active.clientWidth / 2;
  if (focused) at.strip.querySelector(`[data-id="${focused}"]`)?.focus();
}
