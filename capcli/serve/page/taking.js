// Taking texts along: into the clipboard, and as files.

// A button that copies what a function returns; nothing where the browser gives no clipboard, as without HTTPS on other machines.
function copier(text) {
  if (!navigator.clipboard) return "";
  const button = make("button", {type: "button", class: "copy"}, "Copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text());
    button.textContent = "Copied";
  });
  return button;
}

function download(name, type, text) {
  const link = make("a", {href: URL.createObjectURL(new Blob([text], {type})), download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);  // when it is saved
}

// Rows of cells as CSV, which spreadsheets take for UTF-8 by its first sign.
const asCsv = rows => "\ufeff" + rows.map(row => row.map(cell => `"${String(cell).replaceAll('"', '""')}"`).join(",") + "\r\n").join("");
