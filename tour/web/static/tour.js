"use strict";
// Colours, live parts, forms that do not leave the page, search, rehearsal, presenter. No library, nothing from outside.

const byId = (id) => document.getElementById(id);
const kept = (name, otherwise) => { try { return JSON.parse(localStorage.getItem(name)) ?? otherwise; } catch { return otherwise; } };
const keep = (name, value) => localStorage.setItem(name, JSON.stringify(value));

// Dark or light: the system's wish until somebody chooses.
const root = document.documentElement;
const chosen = kept("tour-theme", "");
if (chosen) root.dataset.theme = chosen;
byId("theme")?.addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  keep("tour-theme", root.dataset.theme);
});

// A part is replaced when the server has a new one; focus stays where it was.
function replace(id, html) {
  const part = byId(id);
  if (!part || part.innerHTML === html) return;
  const inside = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  part.innerHTML = html;
  if (inside) part.querySelector(`[href="${CSS.escape(inside)}"]`)?.focus();
}

for (const place of document.querySelectorAll("[data-events]")) {
  const told = byId("live"), source = new EventSource(place.dataset.events);
  const say = (state, text) => { if (told) { told.className = `live dim small ${state}`; told.lastElementChild.textContent = text; } };
  source.onopen = () => say("on", "live");
  source.onerror = () => say("off", "connection lost; trying again");
  source.addEventListener("parts", (event) => {
    for (const [id, html] of Object.entries(JSON.parse(event.data))) replace(id, html);
    root.dataset.updated = Date.now();
  });
  addEventListener("pagehide", () => source.close());
}
