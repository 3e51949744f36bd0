// The photos that were captioned, kept until the tab is closed: a reload loses none, unless they are too many for the browser.
const PLACE = "capcli tried";
const tried = [];  // what the server said of each, the latest last

function keep(photo) {
  tried.push(photo);
  for (let from = 0; from < tried.length; from++) {  // as many as there is room for
    try {
      return sessionStorage.setItem(PLACE, JSON.stringify(tried.slice(from)));
    } catch {}
  }
}

function recall() {
  try {
    return JSON.parse(sessionStorage.getItem(PLACE)) ?? [];
  } catch {
    return [];
  }
}

function forget() {
  tried.length = 0;
  try {
    sessionStorage.removeItem(PLACE);
  } catch {}
}

// The photo as it was shown, in place of the file, which a reload has taken.
function fileOf(photo) {
  return new File([Uint8Array.from(atob(photo.picture), sign => sign.charCodeAt(0))], photo.name, {type: "image/jpeg"});
}
