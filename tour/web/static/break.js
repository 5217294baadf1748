"use strict";
(() => {
  const MARKS = { info: "·", good: "✓", bad: "✗" };
  const buttons = [...document.querySelectorAll("button[data-incident]")];

  function appendEvent(list, event, since) {
    const item = document.createElement("li");
    item.className = event.kind;
    const parts = { time: `${((performance.now() - since) / 1000).toFixed(1)} s`, mark: MARKS[event.kind] || "", words: event.text };
    for (const [name, text] of Object.entries(parts)) {
      const part = document.createElement(name === "time" ? "time" : "span");
      part.className = name;
      part.textContent = text;
      item.append(part);
    }
    list.append(item);
    list.scrollTop = list.scrollHeight;
  }

  async function* readEvents(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) if (line) yield JSON.parse(line);
    }
  }

  async function play(name, undo, list, since) {
    const response = await fetch(`/break/${encodeURIComponent(name)}?undo=${undo}`, { method: "POST" });
    if (!response.ok) {
      appendEvent(list, { kind: "bad", text: (await response.text()).trim() }, since);
      return false;
    }
    for await (const event of readEvents(response)) {
      if (event.kind === "end") return event.ok;
      appendEvent(list, event, since);
    }
    appendEvent(list, { kind: "bad", text: "The connection closed before the incident ended; reload the page to see the state of the system." }, since);
    return false;
  }

  async function runIncident(button) {
    const card = button.closest(".incident"), state = card.querySelector(".state"), clock = card.querySelector(".seconds");
    const list = card.querySelector(".events"), undo = button.dataset.undo === "true", since = performance.now();
    const show = (kind, text) => { state.hidden = false; state.className = `state ${kind}`; state.textContent = text; };
    buttons.forEach((other) => { other.disabled = true; });
    card.classList.add("active");
    list.replaceChildren();
    show("running", undo ? "undoing" : "running");
    const timer = setInterval(() => { clock.textContent = `${Math.floor((performance.now() - since) / 1000)} s`; }, 250);
    let ok = false;
    try {
      ok = await play(button.dataset.incident, undo, list, since);
    } catch (error) {
      appendEvent(list, { kind: "bad", text: `The tour does not answer: ${error.message}` }, since);
    }
    clearInterval(timer);
    card.classList.remove("active");
    buttons.forEach((other) => { other.disabled = false; });
    show(ok ? "ok" : "bad", ok ? (undo ? "undone" : "done") : "failed");
    button.focus();
  }

  buttons.forEach((button) => button.addEventListener("click", () => runIncident(button)));
})();
