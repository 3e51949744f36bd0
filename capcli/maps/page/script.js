const cards = [...document.querySelectorAll(".card")], failures = document.querySelectorAll("#failures li");
const count = document.getElementById("count"), search = document.getElementById("search");
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
    card.hidden = !wanted.every(part => texts[i].includes(part));
    left += !card.hidden;
  });
  const all = `${cards.length} ${document.body.dataset.noun}${cards.length === 1 ? "" : "s"}`;
  count.textContent = (wanted.length ? `${left} of ${all}` : all) + (failures.length ? `, ${failures.length} failed (listed at the end)` : "");
  document.getElementById("nothing").hidden = left > 0 || !wanted.length;
  if (shown?.closest(".card").hidden) show(null);
}
search.addEventListener("input", filter);
filter();

const least = document.getElementById("least");
least?.addEventListener("change", () => {
  const sorted = least.checked ? [...cards].sort((a, b) => a.dataset.sure - b.dataset.sure) : cards;
  document.getElementById("cards").append(...sorted);
});
