"use strict";
const chosen = new Set();

/** Shows the rows with a chosen verdict, and the tables that contain any. */
function choose(button, on) {
  chosen[on ? "add" : "delete"](button.dataset.verdict);
  button.setAttribute("aria-current", String(on));
  document.querySelectorAll("tr[data-verdict]").forEach((row) => { row.hidden = !chosen.has(row.dataset.verdict); });
  document.querySelectorAll("section").forEach((section) => { section.hidden = !section.querySelector("tr[data-verdict]:not([hidden])"); });
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  document.getElementById("theme").textContent = theme === "dark" ? "Light" : "Dark";
}

setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
document.getElementById("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
const buttons = [...document.querySelectorAll("#verdicts button")];
buttons.forEach((button) => button.addEventListener("click", () => choose(button, !chosen.has(button.dataset.verdict))));
const found = buttons.filter((button) => button.dataset.verdict !== "missing");
(found.length ? found : buttons).forEach((button) => choose(button, true));
