// What both pages need: asking the server, and making elements of its answers.

// Make an element: its attributes, then what is in it; text never becomes markup.
function make(tag, attributes = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null) element.setAttribute(name, value);
  element.append(...inside);
  return element;
}

// A sentence as a row of buttons, one a word, that carry their heat; without attention only its text.
function sentence(tag, said) {
  const element = make(tag, {class: "caption"});
  if (!said.words.length) element.append(said.text);
  else Object.assign(element.dataset, {grid: said.grid.join(), offset: said.offset, smooth: "1"});
  said.words.forEach((word, i) => {
    if (i && !word.text.startsWith("'")) element.append(" ");
    const button = make("button", {type: "button", class: word.doubted ? "w doubted" : "w", "aria-description": word.description}, word.text);
    if (i) button.tabIndex = -1;  // a caption is one tab stop; arrow keys go on
    Object.assign(button.dataset, {heat: word.heat, strength: word.strength});
    element.append(button);
  });
  return element;
}

// Give a picture's frame the picture's shape.
function shape(frame, width, height) {
  frame.style.setProperty("--shape", (width / height).toFixed(4));
}

class Refused extends Error {
  constructor(status, answer) {
    super(answer.error ?? `the server answered ${status}`);
    Object.assign(this, {status, answer});
  }
}

const pause = seconds => new Promise(resolve => setTimeout(resolve, 1000 * seconds));

// Ask the server, and again while it is busy. Throws Refused, also where there is no answer.
async function ask(path, options = {}) {
  for (let attempt = 0; ; attempt++) {
    let response;
    try {
      response = await fetch(path, options);
    } catch {
      throw new Refused(0, {error: "The server does not answer. Does capcli serve still run?"});
    }
    const answer = await response.json().catch(() => ({}));
    if (response.ok) return answer;
    if (response.status === 401) throw new Refused(401, {error: "capcli serve was restarted: open the address that it printed."});
    if (![429, 503].includes(response.status) || attempt === 9) throw new Refused(response.status, answer);
    await pause(+response.headers.get("Retry-After") || 2);
  }
}
