"use strict";
// Teaching a model what is saved, and choosing between it and the model of before.

const teachingIds = "model teaching state taught teach cancel use back differences";
const school = Object.fromEntries(teachingIds.split(" ").map(id => [id, document.getElementById(id)]));
const EXAMPLES = 12;
let lesson = null;  // what the server said last

const minutes = seconds => seconds < 90 ? `${Math.max(1, Math.round(seconds))} seconds` : `${Math.round(seconds / 60)} minutes`;
const figures = ([before, after]) => `CIDEr-D ${before.toFixed(1)} before, ${after.toFixed(1)} after`;

// What became of the last teaching, in words.
function outcome({going, ready, chosen, record, problem}) {
  if (going) {
    if (!record?.passes) return "Teaching: looking at the photos …";
    const left = record.seconds_left === null ? "" : `, about ${minutes(record.seconds_left)} left`;
    return `Teaching: pass ${record.pass} of ${record.passes}${left}.`;
  }
  if (problem) return `Not taught: ${problem}`;
  if (record?.kept === false) return `Nothing is kept: photos that were held out are described worse than before (${figures(record.gain)}). Teaching is worth it for photos of one kind, and for names.`;
  if (record?.kept) return [record.gain ? `Taught. Photos that were held out: ${figures(record.gain)}.` : "Taught. With fewer than six photos none could be held out to measure the gain.", chosen ? comparison() : ""].join(" ");
  return ready ? "A model was taught earlier." : "";
}

// How many of the person's own photos have their words by the model in use, and how many others it changed.
function comparison() {
  const ready = [...photos.values()].filter(photo => photo.before !== null && photo.candidates.length);
  if (!known.complete || !ready.length) return "";
  const yours = ready.filter(kinds.corrected), others = ready.filter(photo => photo.saved === null);
  const same = yours.filter(photo => best(photo) === photo.saved).length, changed = others.filter(kinds.changed).length;
  return `Of ${yours.length} photos that you captioned, ${same} have your words; of ${others.length} others, ${changed} ${changed === 1 ? "has" : "have"} another caption.`;
}

function drawTeaching() {
  const {model, chosen, ready, newer, going, record} = lesson;
  school.model.textContent = `Model: ${model}`;
  const said = outcome(lesson);
  if (school.state.textContent !== said) school.state.textContent = said;
  school.taught.hidden = !going;
  school.taught.max = record?.passes || 1;
  school.taught.value = record?.pass ?? 0;
  school.teach.hidden = going;
  school.cancel.hidden = !going;
  school.use.hidden = going || !ready || (chosen && !newer);
  school.back.hidden = !chosen;
  const shown = chosen
    ? [...photos.values()].filter(kinds.changed).slice(0, EXAMPLES).map(photo => [photo.name, photo.before, best(photo), photo.saved])
    : (record?.examples ?? []).map(each => [each.photo.split(/[\\/]/).at(-1), each.before, each.after, each.yours]);
  const rows = shown.map(([name, before, after, yours]) => make("li", {},
    make("span", {class: "path"}, name), make("span", {}, `before: ${before}`), make("span", {}, `after: ${after}`), ...(yours ? [make("span", {}, `yours: ${yours}`)] : [])));
  if (school.differences.textContent !== rows.map(row => row.textContent).join("")) school.differences.replaceChildren(...rows);
}

async function tellTeacher(what) {
  for (const button of school.teaching.querySelectorAll("button")) button.disabled = true;
  at.problem.textContent = "";
  try {
    lesson = await post("/page/teaching", {do: what});
    drawTeaching();
  } catch (error) {
    complain(error);
    school.state.textContent = error.message;
  } finally {
    for (const button of school.teaching.querySelectorAll("button")) button.disabled = false;
  }
}

async function followTeaching() {
  for (;;) {
    try {
      lesson = await ask("/page/teaching");
      drawTeaching();
    } catch {}  // which following the photos tells as well
    await pause(lesson?.going ? 2 : school.teaching.open ? 3 : 10);
  }
}

if (school.teaching) {
  for (const [id, what] of [["teach", "start"], ["cancel", "cancel"], ["use", "use"], ["back", "back"]])
    school[id].addEventListener("click", () => tellTeacher(what));
  followTeaching();
}
