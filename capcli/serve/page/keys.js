"use strict";
// Single keys.
const COMMANDS = {n: () => step(1), p: () => step(-1), u: undo, r: redo, a: () => accept(), g: switchView, e: () => { at.field.focus(); at.field.select(); },
  "/": () => at.search.focus(), ArrowRight: () => step(1), ArrowLeft: () => step(-1)};
document.addEventListener("keydown", event => {
  if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
  const {key, target} = event;
  if (key === "Escape") return giveUp();
  if (target === at.field) {
    if (key !== "ArrowDown" && key !== "ArrowUp") return;
    event.preventDefault();
    return step(key === "ArrowDown" ? 1 : -1);
  }
  if (target.matches?.("input, select, textarea") || !at.keys.checked || isGrid() && !"urag/".includes(key)) return;
  if (key >= "1" && key <= "5") choose(+key - 1);
  else if (key === "Enter" && !target.closest?.("button, a, summary")) save();
  else if (key in COMMANDS && !(key.startsWith("Arrow") && target.matches?.(".w, pre"))) COMMANDS[key]();
  else return;
  event.preventDefault();
});
