"use strict";
// Accepting the model's first caption of all photos that are shown and untouched.
const AT_A_TIME = 100;  // photos that one request accepts

async function accept() {
  const wanted = list.filter(kinds.untouched);
  at.question.textContent = `Accept the model's first caption of ${wanted.length === 1 ? "this photo" : `these ${wanted.length} photos`}?`;
  at.sure.returnValue = "";
  at.sure.showModal();
  await new Promise(resolve => at.sure.addEventListener("close", resolve, {once: true}));
  if (at.sure.returnValue !== "yes") return;
  const numbers = [], problems = [];
  let done = 0, conflicts = 0;
  at.problem.textContent = "";
  try {
    for (let begin = 0; begin < wanted.length; begin += AT_A_TIME) {
      const some = wanted.slice(begin, begin + AT_A_TIME).map(({id, tag}) => ({id, tag}));
      const answer = await post("/page/accept", {photos: some});
      learn([...answer.photos, ...answer.conflicts]);
      if (answer.photos.length) numbers.push(answer.save);
      done += answer.photos.length;
      conflicts += answer.conflicts.length;
      problems.push(...answer.problems);
      at.said.textContent = `${done} of ${wanted.length} accepted`;
    }
  } catch (error) {
    complain(error);
  }
  if (numbers.length) saves.push(numbers);
  if (conflicts) problems.push(`${conflicts} changed elsewhere meanwhile, and left as they are`);
  if (problems.length) at.problem.textContent = problems.slice(0, 5).join("; ") + (problems.length > 5 ? ` and ${problems.length - 5} more` : "");
  refresh();
}

at.accept.addEventListener("click", accept);
