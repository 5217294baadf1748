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

// On a phone the pages' names are a strip: the current one is in sight.
const current = document.querySelector(".top [aria-current]");
if (current) current.parentElement.scrollLeft = current.offsetLeft - current.parentElement.offsetLeft - 24;

// A part is replaced when the server has a new one; focus stays where it was.
function replace(id, html) {
  const part = byId(id);
  if (!part || part.innerHTML === html) return;
  const held = part.contains(document.activeElement) ? document.activeElement : null, place = held?.getAttribute("href");
  part.innerHTML = html;
  for (const one of part.querySelectorAll("[data-since]")) one.began = performance.now() - 1000 * Number(one.dataset.since);
  if (held) part.querySelector(place ? `[href="${CSS.escape(place)}"]` : "button")?.focus();
}

// Seconds that go on between two words of the server.
setInterval(() => {
  for (const one of document.querySelectorAll("[data-since]")) {
    one.began ??= performance.now() - 1000 * Number(one.dataset.since);
    const seconds = (performance.now() - one.began) / 1000, bar = one.closest("section")?.querySelector("progress[value]");
    one.textContent = seconds.toFixed(1);
    if (bar) bar.value = seconds;
  }
}, 100);

for (const place of document.querySelectorAll("[data-events]")) {
  const told = byId("live"), source = new EventSource(place.dataset.events);
  const say = (state, text) => { if (told) { told.className = `live dim small ${state}`; told.lastElementChild.textContent = text; } };
  source.onopen = () => say("on", "live");
  source.onerror = () => say("off", "connection lost; trying again");
  source.addEventListener("parts", (event) => {
    const parts = Object.entries(JSON.parse(event.data));
    // A page that was opened while the metadata store did not answer has no place for the cases.
    if (parts.some(([id]) => !byId(id))) { location.reload(); return; }
    for (const [id, html] of parts) replace(id, html);
    root.dataset.updated = Date.now();
  });
  addEventListener("pagehide", () => source.close());
}

// Evidence: a form that stays on the page, and the stream that tells how far it is.
const follow = (url) => {
  const source = new EventSource(url);
  source.addEventListener("parts", (event) => { for (const [id, html] of Object.entries(JSON.parse(event.data))) replace(id, html); });
  source.addEventListener("end", () => source.close());
  source.onerror = () => source.close();
  addEventListener("pagehide", () => source.close());
};
for (const place of document.querySelectorAll("[data-job]")) follow(place.dataset.job);
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.dataset.quiet === undefined) return;
  event.preventDefault();
  for (const button of form.querySelectorAll("button")) button.disabled = true;
  const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), redirect: "manual", headers: { accept: "application/json" } })
    .catch(() => null);
  if (answer && (answer.ok || answer.type === "opaqueredirect")) {
    if (form.dataset.quiet) follow(form.dataset.quiet);
    return;
  }
  const said = document.createElement("p");
  said.className = "notice bad"; said.setAttribute("role", "alert");
  said.textContent = answer ? await answer.text().then((text) => { try { return JSON.parse(text).error; } catch { return text; } }) : "The tour does not answer.";
  form.querySelector(".notice")?.remove(); form.append(said);
  for (const button of form.querySelectorAll("button")) button.disabled = false;
});

// Search: the list follows what is typed; the button asks the server, which ranks.
const typed = byId("q"), listed = byId("questions");
if (typed && listed) typed.addEventListener("input", () => {
  const words = typed.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const one of listed.children) { one.hidden = !words.every((word) => one.dataset.words.includes(word)); count += !one.hidden; }
  byId("found").textContent = `${count} ${count === 1 ? "question" : "questions"}`;
});

// Keys are for pages, not for fields and not with a modifier.
const keys = (handlers) => addEventListener("keydown", (event) => {
  const busy = event.target.closest("input, textarea, select, button, a, summary");
  if (event.ctrlKey || event.metaKey || event.altKey || (busy && (event.key === " " || event.key === "Enter" || busy.matches("input, textarea, select")))) return;
  if (handlers[event.key]) { event.preventDefault(); handlers[event.key](); }
});

// Rehearsal: those not known come three times as often; the score lies in this browser.
const card = byId("card");
if (card) {
  const ids = card.dataset.ids.split(" ");
  let marks = kept("tour-marks", {}), now = "";
  const paint = () => {
    const known = ids.filter((id) => marks[id] === 1).length, drawn = ids.filter((id) => id in marks).length;
    byId("score").textContent = `${known} known of ${drawn} drawn, ${ids.length} in all`;
    for (const one of byId("marks").children) one.className = marks[one.dataset.id] === 1 ? "knew" : one.dataset.id in marks ? "missed" : "";
  };
  const draw = async () => {
    const bag = ids.filter((id) => id !== now).flatMap((id) => Array(marks[id] === 1 ? 1 : 3).fill(id));
    now = bag[Math.floor(Math.random() * bag.length)];
    const answer = await fetch(`/questions/${now}/card`).catch(() => null);
    if (answer?.ok) card.innerHTML = await answer.text(); else card.textContent = "The tour does not answer.";
  };
  const mark = (value) => { marks[now] = value; keep("tour-marks", marks); paint(); draw(); };
  const show = () => { const answer = byId("answer"); if (answer) answer.open = !answer.open; };
  byId("show").onclick = show;
  byId("knew").onclick = () => mark(1);
  byId("missed").onclick = () => mark(0);
  byId("forget").onclick = () => { marks = {}; keep("tour-marks", marks); paint(); };
  keys({ " ": show, k: () => mark(1), n: () => mark(0) });
  paint(); draw();
}

// Presenter: the clock goes on over a reload, since it is kept as moments and not as ticks.
const clock = byId("clock");
if (clock) {
  const steps = [...byId("route").children], total = Number(clock.dataset.total);
  const fresh = { step: 0, since: 0, spent: 0 };
  let state = kept("tour-presenter", fresh);
  if (!(state.step < steps.length)) state = fresh;
  const spent = () => state.spent + (state.since ? (Date.now() - state.since) / 1000 : 0);
  const words = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
  const paint = () => {
    const now = spent(), left = Number(steps[state.step].dataset.begins) + Number(steps[state.step].dataset.seconds) - now;
    byId("spent").textContent = words(now);
    byId("gone").setAttribute("width", Math.min(now, total));
    clock.classList.toggle("late", left < 0);
    byId("pace").textContent = !state.since && !now ? "Not started" : left < 0 ? `${words(-left)} behind: go on to the next step` : `${words(left)} left for step ${state.step + 1}`;
    byId("go").firstChild.textContent = state.since ? "Pause " : now ? "Go on " : "Start ";
  };
  const settle = (move) => {
    keep("tour-presenter", state);
    steps.forEach((one, at) => { one.classList.toggle("now", at === state.step); one.classList.toggle("past", at < state.step); if (at === state.step) one.setAttribute("aria-current", "step"); else one.removeAttribute("aria-current"); });
    if (move) steps[state.step].scrollIntoView({ block: "center", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    paint();
  };
  const go = () => { state = state.since ? { ...state, spent: spent(), since: 0 } : { ...state, since: Date.now() }; settle(false); };
  const to = (step) => { state = { ...state, step: Math.max(0, Math.min(steps.length - 1, step)) }; settle(true); };
  const reset = () => { state = { ...fresh }; settle(true); };
  const open = () => window.open(steps[state.step].dataset.page, "audience");
  byId("go").onclick = go; byId("back").onclick = () => to(state.step - 1); byId("next").onclick = () => to(state.step + 1);
  byId("open").onclick = open; byId("reset").onclick = reset;
  keys({ " ": go, ArrowRight: () => to(state.step + 1), ArrowDown: () => to(state.step + 1), ArrowLeft: () => to(state.step - 1), ArrowUp: () => to(state.step - 1), r: reset, o: open });
  settle(false);
  setInterval(paint, 250);
}
