"use strict";
(() => {
  const MARKS = { info: "·", good: "✓", bad: "✗" };
  const buttons = [...document.querySelectorAll("button[data-incident]")];

  function told(list, event, since) {
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

  async function* lines(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const whole = (rest + value).split("\n");
      rest = whole.pop();
      for (const line of whole) if (line) yield JSON.parse(line);
    }
  }

  async function play(name, undo, list, since) {
    const response = await fetch(`/break/${encodeURIComponent(name)}?undo=${undo}`, { method: "POST" });
    if (!response.ok) {
      told(list, { kind: "bad", text: (await response.text()).trim() }, since);
      return false;
    }
    for await (const event of lines(response)) {
      if (event.kind === "end") return event.ok;
      told(list, event, since);
    }
    told(list, { kind: "bad", text: "The connection ended before the incident did." }, since);
    return false;
  }

  async function pressed(button) {
    const card = button.closest(".incident"), state = card.querySelector(".state"), clock = card.querySelector(".seconds");
    const list = card.querySelector(".events"), undo = button.dataset.undo === "true", since = performance.now();
    const show = (kind, text) => { state.hidden = false; state.className = `state ${kind}`; state.textContent = text; };
    buttons.forEach((one) => { one.disabled = true; });
    card.classList.add("active");
    list.replaceChildren();
    show("running", undo ? "being undone" : "under way");
    const ticking = setInterval(() => { clock.textContent = `${Math.floor((performance.now() - since) / 1000)} s`; }, 250);
    let ok = false;
    try {
      ok = await play(button.dataset.incident, undo, list, since);
    } catch (error) {
      told(list, { kind: "bad", text: `The tour does not answer: ${error.message}` }, since);
    }
    clearInterval(ticking);
    card.classList.remove("active");
    buttons.forEach((one) => { one.disabled = false; });
    show(ok ? "ok" : "bad", ok ? (undo ? "undone" : "answered") : "not done");
    button.focus();
  }

  buttons.forEach((button) => button.addEventListener("click", () => pressed(button)));
})();
