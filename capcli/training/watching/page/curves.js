"use strict";
{
  const follow = document.getElementById("follow");
  let timer = 0;
  const wait = () => {
    clearTimeout(timer);
    if (follow.checked) timer = setTimeout(() => location.reload(), 30_000);
  };
  follow?.addEventListener("change", () => {
    location.replace(follow.checked ? "#follow" : "#");  // a reloaded page knows by its address
    wait();
  });
  if (follow) {
    follow.checked = location.hash === "#follow";
    wait();
  }
}
