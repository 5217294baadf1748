"use strict";
// Colour theme, live parts, forms sent in the background, search, rehearsal, presenter. No library, no external resource.

const byId = (id) => document.getElementById(id);
const load = (name, otherwise) => { try { return JSON.parse(localStorage.getItem(name)) ?? otherwise; } catch { return otherwise; } };
const save = (name, value) => localStorage.setItem(name, JSON.stringify(value));

// Dark or light: the system's preference until the user chooses.
const root = document.documentElement;
const chosen = load("tour-theme", "");
if (chosen) root.dataset.theme = chosen;
byId("theme")?.addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  save("tour-theme", root.dataset.theme);
});

// On a phone the navigation scrolls sideways: scroll to the current page's link.
const current = document.querySelector(".top [aria-current]");
if (current) current.parentElement.scrollLeft = current.offsetLeft - current.parentElement.offsetLeft - 24;

// Replace a part by the HTML from the server; restore the focus.
function replace(id, html) {
  const part = byId(id);
  if (!part || part.innerHTML === html) return;
  const focused = part.contains(document.activeElement) ? document.activeElement : null, href = focused?.getAttribute("href");
  part.innerHTML = html;
  for (const timer of part.querySelectorAll("[data-since]")) timer.began = performance.now() - 1000 * Number(timer.dataset.since);
  if (focused) part.querySelector(href ? `[href="${CSS.escape(href)}"]` : "button")?.focus();
}

// Count the seconds between two events of the server.
setInterval(() => {
  for (const timer of document.querySelectorAll("[data-since]")) {
    timer.began ??= performance.now() - 1000 * Number(timer.dataset.since);
    const seconds = (performance.now() - timer.began) / 1000, bar = timer.closest("section")?.querySelector("progress[value]");
    timer.textContent = seconds.toFixed(1);
    if (bar) bar.value = seconds;
  }
}, 100);

for (const section of document.querySelectorAll("[data-events]")) {
  const status = byId("live"), source = new EventSource(section.dataset.events);
  const show = (state, text) => { if (status) { status.className = `live dim small ${state}`; status.lastElementChild.textContent = text; } };
  source.onopen = () => show("on", "live");
  source.onerror = () => show("off", "connection lost; reconnecting");
  source.addEventListener("parts", (event) => {
    const parts = Object.entries(JSON.parse(event.data));
    // A page that was opened while the metadata store was unavailable has no elements for the cases.
    if (parts.some(([id]) => !byId(id))) { location.reload(); return; }
    for (const [id, html] of parts) replace(id, html);
    root.dataset.updated = Date.now();
  });
  addEventListener("pagehide", () => source.close());
}

// Evidence: a form that is sent in the background, and the stream of its progress.
const follow = (url) => {
  const source = new EventSource(url);
  source.addEventListener("parts", (event) => { for (const [id, html] of Object.entries(JSON.parse(event.data))) replace(id, html); });
  source.addEventListener("end", () => source.close());
  source.onerror = () => source.close();
  addEventListener("pagehide", () => source.close());
};
for (const section of document.querySelectorAll("[data-job]")) follow(section.dataset.job);
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
  const notice = document.createElement("p");
  notice.className = "notice bad"; notice.setAttribute("role", "alert");
  notice.textContent = answer ? await answer.text().then((text) => { try { return JSON.parse(text).error; } catch { return text; } }) : "The tour does not answer; check that `showcase tour` is running.";
  form.querySelector(".notice")?.remove(); form.append(notice);
  for (const button of form.querySelectorAll("button")) button.disabled = false;
});

// Search: filter the list while typing; the button asks the server, which ranks the matches.
const query = byId("q"), list = byId("questions");
if (query && list) query.addEventListener("input", () => {
  const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const item of list.children) { item.hidden = !words.every((word) => item.dataset.words.includes(word)); count += !item.hidden; }
  byId("match-count").textContent = `${count} ${count === 1 ? "question" : "questions"}`;
});

// Keyboard shortcuts, except in fields and with a modifier key.
const keys = (handlers) => addEventListener("keydown", (event) => {
  const busy = event.target.closest("input, textarea, select, button, a, summary");
  if (event.ctrlKey || event.metaKey || event.altKey || (busy && (event.key === " " || event.key === "Enter" || busy.matches("input, textarea, select")))) return;
  if (handlers[event.key]) { event.preventDefault(); handlers[event.key](); }
});

// Rehearsal: a question that is not known is drawn three times as often; the score is in local storage.
const card = byId("card");
if (card) {
  const ids = card.dataset.ids.split(" ");
  let marks = load("tour-marks", {}), now = "";
  const paint = () => {
    const knownCount = ids.filter((id) => marks[id] === 1).length, drawn = ids.filter((id) => id in marks).length;
    byId("score").textContent = `${knownCount} known of ${drawn} drawn, ${ids.length} in total`;
    for (const item of byId("marks").children) item.className = marks[item.dataset.id] === 1 ? "knew" : item.dataset.id in marks ? "missed" : "";
  };
  const draw = async () => {
    const bag = ids.filter((id) => id !== now).flatMap((id) => Array(marks[id] === 1 ? 1 : 3).fill(id));
    now = bag[Math.floor(Math.random() * bag.length)];
    const answer = await fetch(`/questions/${now}/card`).catch(() => null);
    if (answer?.ok) card.innerHTML = await answer.text(); else card.textContent = "The tour does not answer; check that `showcase tour` is running.";
  };
  const mark = (value) => { marks[now] = value; save("tour-marks", marks); paint(); draw(); };
  const show = () => { const answer = byId("answer"); if (answer) answer.open = !answer.open; };
  byId("show").onclick = show;
  byId("knew").onclick = () => mark(1);
  byId("missed").onclick = () => mark(0);
  byId("forget").onclick = () => { marks = {}; save("tour-marks", marks); paint(); };
  keys({ " ": show, k: () => mark(1), n: () => mark(0) });
  paint(); draw();
}

// Presenter: the clock continues after a reload, because its start time is in local storage.
const clock = byId("clock");
if (clock) {
  const steps = [...byId("route").children], total = Number(clock.dataset.total);
  const fresh = { step: 0, since: 0, spent: 0 };
  let state = load("tour-presenter", fresh);
  if (!(state.step < steps.length)) state = fresh;
  const spent = () => state.spent + (state.since ? (Date.now() - state.since) / 1000 : 0);
  const format = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
  const paint = () => {
    const now = spent(), left = Number(steps[state.step].dataset.begins) + Number(steps[state.step].dataset.seconds) - now;
    byId("spent").textContent = format(now);
    byId("gone").setAttribute("width", Math.min(now, total));
    clock.classList.toggle("late", left < 0);
    byId("pace").textContent = !state.since && !now ? "Not started" : left < 0 ? `${format(-left)} behind: go to the next step` : `${format(left)} left for step ${state.step + 1}`;
    byId("go").firstChild.textContent = state.since ? "Pause " : now ? "Resume " : "Start ";
  };
  const settle = (move) => {
    save("tour-presenter", state);
    steps.forEach((step, at) => { step.classList.toggle("now", at === state.step); step.classList.toggle("past", at < state.step); if (at === state.step) step.setAttribute("aria-current", "step"); else step.removeAttribute("aria-current"); });
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
