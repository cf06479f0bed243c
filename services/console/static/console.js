// Keeps the figures fresh and follows the hub's theme. Every page works without it.
"use strict";

const EVERY_MS = 2000;
const GIVE_UP_MS = 8000;

const chosen = localStorage.getItem("jupyterhub-bs-theme");
if (chosen === "light" || chosen === "dark") {
  document.documentElement.dataset.theme = chosen;
}

// Changes only the cells whose figure changed, so that focus and selection stay where they are.
// A row that came or went replaces the region; then focus returns by id.
function update(region, fresh) {
  const old = [...region.querySelectorAll("[data-figure]")];
  const now = [...fresh.querySelectorAll("[data-figure]")];
  const isSame = region.querySelectorAll("*").length === fresh.querySelectorAll("*").length &&
    old.length === now.length &&
    old.every((cell, i) => cell.dataset.figure === now[i].dataset.figure);
  if (!isSame) {
    const focused = document.activeElement && document.activeElement.id;
    region.replaceChildren(...fresh.childNodes);
    if (focused && document.getElementById(focused)) document.getElementById(focused).focus();
    return;
  }
  old.forEach((cell, i) => {
    if (cell.innerHTML !== now[i].innerHTML) cell.replaceChildren(...now[i].childNodes);
  });
}

async function refresh(region) {
  const reply = await fetch(region.dataset.refresh, {
    headers: { "X-XSRFToken": document.body.dataset.xsrf },
    redirect: "error",
    signal: AbortSignal.timeout(GIVE_UP_MS),
  });
  if (!reply.ok) throw new Error(String(reply.status));
  const fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
  const now = fresh.getElementById(region.id);
  update(region, now);
  follow(now);
}

// What was waited for is over: go where it leads.
function follow(region) {
  const isHandedOver = new URLSearchParams(location.search).get("back") === "1";
  if (isHandedOver && region.dataset.then) location.replace(region.dataset.then);
}

async function keepFresh(region, note) {
  for (;;) {
    await new Promise((done) => setTimeout(done, EVERY_MS));
    if (document.hidden) continue;
    try {
      await refresh(region);
      note.hidden = true;
    } catch {
      note.hidden = false;
    }
  }
}

document.addEventListener("DOMContentLoaded", () => {
  const region = document.querySelector("[data-refresh]");
  if (!region) return;
  const note = document.createElement("p");
  note.className = "missing";
  note.setAttribute("role", "status");
  note.textContent = "The figures below are old: the hub does not answer, or your login has ended. " +
    "Load the page again.";
  note.hidden = true;
  region.before(note);
  follow(region);
  keepFresh(region, note);
});
