// The theme that somebody chose in this browser: the system's, light or dark.
{
  const stored = value => {
    try {
      if (value) localStorage.setItem("capcli.theme", value);
      return localStorage.getItem("capcli.theme");
    } catch {  // where a browser keeps nothing, the choice lasts as long as the page
      return value;
    }
  };
  const use = theme => { document.documentElement.style.colorScheme = theme === "light" || theme === "dark" ? theme : ""; };
  use(stored());
  document.addEventListener("DOMContentLoaded", () => {
    const select = document.createElement("select"), label = document.createElement("label");
    select.append(...["system", "light", "dark"].map(theme => new Option(theme, theme, false, theme === stored())));
    select.addEventListener("change", () => { stored(select.value); use(select.value); });
    label.append("Theme ", select);
    (document.querySelector(".options") ?? document.querySelector("header"))?.append(label);
  });
}
