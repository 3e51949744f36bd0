// A card over the whole window, with its words and their heat: by a click on the picture, or z at a word. Escape closes it.
function enlarge(card) {
  if (card.popover) return card.hidePopover();
  card.popover = "auto";
  card.showPopover();
}

document.addEventListener("toggle", event => {
  if (event.newState === "closed" && event.target.matches(".card")) event.target.popover = null;
}, true);  // it does not bubble
document.addEventListener("click", event => {
  if (event.target.matches("#cards .view img")) enlarge(event.target.closest(".card"));
});
document.addEventListener("keydown", event => {
  if (event.key !== "z" || event.ctrlKey || event.altKey || event.metaKey || !event.target.matches("#cards .w")) return;
  event.preventDefault();
  enlarge(event.target.closest(".card"));
});
