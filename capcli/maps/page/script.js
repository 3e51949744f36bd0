const cards = [...document.querySelectorAll(".card")], failures = document.querySelectorAll("#failures li");
const count = document.getElementById("count"), search = document.getElementById("search"), choice = document.getElementById("filter");
const unsure = card => card.querySelector(".unsure") !== null, unsures = cards.filter(unsure).length;
for (const [kind, number] of [["all", 1], ["unsure", unsures], ["failed", failures.length]]) {
  if (number) choice.append(new Option(kind === "all" ? kind : `${kind} (${number})`, kind));
}
choice.parentElement.hidden = choice.length < 2;
document.addEventListener("keydown", event => {
  if (event.key !== "/" || event.target === search || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  search.focus();
});

const texts = cards.map(card => card.dataset.search.toLowerCase());
function filter() {
  const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let left = 0;
  cards.forEach((card, i) => {
    card.hidden = choice.value === "failed" || choice.value === "unsure" && !unsure(card) || !wanted.every(part => texts[i].includes(part));
    left += !card.hidden;
  });
  const all = `${cards.length} ${document.body.dataset.noun}${cards.length === 1 ? "" : "s"}`;
  count.textContent = (left < cards.length ? `${left} of ${all}` : all) + (failures.length ? `, ${failures.length} failed (listed at the end)` : "");
  document.getElementById("nothing").hidden = left > 0 || !cards.length || choice.value === "failed";
  if (shown?.closest(".card").hidden) show(null);
}
search.addEventListener("input", filter);
choice.addEventListener("change", filter);
filter();

const least = document.getElementById("least");
least?.addEventListener("change", () => {
  const sorted = least.checked ? [...cards].sort((a, b) => a.dataset.sure - b.dataset.sure) : cards;
  document.getElementById("cards").append(...sorted);
});
