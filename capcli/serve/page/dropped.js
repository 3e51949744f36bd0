// The files that somebody dropped, those in folders included, in natural order.

const isPhoto = file => file.type.startsWith("image/") || /\.(heic|heif|tiff?)$/i.test(file.name);

async function filesOf(transfer) {
  // All at once: after the first wait the browser takes them away.
  const given = [...transfer.items].filter(item => item.kind === "file").map(item => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const files = [];
  for (const each of given) await walk(each, files);
  return files;
}

// Add a file, or the photos of a folder and of those in it, except for hidden ones.
async function walk(entry, files, within = false) {
  if (entry instanceof File) files.push(entry);
  else if (entry?.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    if (!within || isPhoto(file) && !file.name.startsWith(".")) files.push(file);
  } else if (entry?.isDirectory && !entry.name.startsWith(".")) {
    const reader = entry.createReader(), found = [];
    for (let some; (some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject))).length;) found.push(...some);
    found.sort((a, b) => a.name.localeCompare(b.name, undefined, {numeric: true}));
    for (const each of found) await walk(each, files, true);
  }
}
