"use strict";
// Accepting the model's first caption of all photos that are shown or selected, untouched and without a text.

const acceptable = () => meant().filter(photo => kinds.alone(photo) && !drafts.has(photo.name));

async function accept() {
  const wanted = acceptable();
  if (!wanted.length) return;
  at.question.textContent = `Accept the model's first caption of ${wanted.length === 1 ? "this photo" : `these ${wanted.length} photos`}?`;
  const others = meant().length - wanted.length;
  if (isGrid() && selected.size && others) at.question.textContent += ` The other ${others} selected ${others === 1 ? "has" : "have"} a text already.`;
  at.meant.replaceChildren(...wanted.map(photo => make("li", {},
    make("img", {src: picture(photo, SMALL), alt: photo.name, loading: "lazy"}), make("span", {}, best(photo)))));
  at.sure.returnValue = "";
  at.sure.showModal();
  await new Promise(resolve => at.sure.addEventListener("close", resolve, {once: true}));
  at.meant.replaceChildren();
  if (at.sure.returnValue !== "yes") return;
  await saveSeveral(wanted.map(({id, tag}) => ({id, tag})));
  redoable.length = 0;
  refresh();
  if (at.accept.disabled) (isGrid() ? grid : at.stage).focus({preventScroll: true});  // the focus was on it
}

at.accept.addEventListener("click", accept);
