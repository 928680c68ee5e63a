// Keeps the page live: a change event -> fetch the parts -> replace those that differ.
"use strict";
const base = document.body.dataset.base;
const shown = {};
// A Raspberry Pi's clock may be off: count by its clock, not by ours.
const ahead = document.body.dataset.now - Date.now() / 1000;

function words(seconds) {
  const s = Math.max(0, Math.floor(seconds)), two = (n) => String(n).padStart(2, "0");
  if (s < 60) return s + "s";
  if (s < 3600) return Math.floor(s / 60) + "m" + two(s % 60) + "s";
  if (s < 86400) return Math.floor(s / 3600) + "h" + two(Math.floor(s / 60) % 60) + "m";
  return Math.floor(s / 86400) + "d" + two(Math.floor(s / 3600) % 24) + "h";
}

function tick() {
  for (const time of document.querySelectorAll("time[data-since]")) {
    time.textContent = words(Date.now() / 1000 + ahead - time.dataset.since);
  }
}

function put(section, html) {
  const fresh = document.createElement("template");
  fresh.innerHTML = html; // made and escaped by our own server
  // An open log goes on living: its element moves into the new section.
  for (const kept of section.querySelectorAll("[data-keep]")) {
    const twin = fresh.content.querySelector(`[data-keep="${CSS.escape(kept.dataset.keep)}"]`);
    if (twin) twin.replaceWith(kept);
  }
  section.replaceChildren(fresh.content);
}

async function refresh() {
  const answer = await fetch(base + "parts");
  if (!answer.ok) return;
  const parts = await answer.json();
  for (const [name, html] of Object.entries(parts)) {
    const same = html.replace(/(<time data-since="[^"]*">)[^<]*/g, "$1");
    const section = document.getElementById(name);
    const focused = section.contains(document.activeElement) && document.activeElement;
    if (shown[name] === same || (focused && (focused.tagName === "INPUT" || focused.className === "tip"))) continue;
    shown[name] = same;
    put(section, html);
    if (focused && !section.contains(document.activeElement)) section.querySelector(focused.tagName)?.focus();
  }
  live("Live");
  rememberToken();
  tick();
}

function live(text, lost) {
  const line = document.getElementById("live");
  line.textContent = text;
  line.className = lost ? "lost" : "";
}

function follow(details) {
  const pre = details.querySelector("pre");
  const source = new EventSource(details.dataset.log);
  details.source = source;
  pre.textContent = "";
  source.addEventListener("log", (event) => {
    const data = JSON.parse(event.data);
    const atEnd = pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 4;
    for (const html of data.html) {
      const line = document.createElement("div");
      line.innerHTML = html || " "; // made and escaped by our own server
      if (data.stream === "stderr") line.className = "stderr";
      pre.append(line);
    }
    while (pre.childElementCount > 1000) pre.firstElementChild.remove();
    if (atEnd) pre.scrollTop = pre.scrollHeight;
  });
  source.addEventListener("missed", (event) => {
    pre.append(`[${JSON.parse(event.data).lines} lines skipped]\n`);
  });
  source.addEventListener("end", () => source.close());
}

document.addEventListener("toggle", (event) => {
  const details = event.target;
  if (!details.dataset.log) return;
  if (details.open) follow(details);
  else details.source?.close();
}, true);

// The admin token is asked for once a browser session.
function rememberToken() {
  const field = document.getElementById("token");
  if (field && !field.value) field.value = sessionStorage.getItem("token") || "";
}

document.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = new URLSearchParams(new FormData(event.target));
  const answer = await fetch(event.target.getAttribute("action"), { method: "POST", body: fields });
  if (answer.ok && fields.has("token")) sessionStorage.setItem("token", fields.get("token"));
  if (answer.status === 401) sessionStorage.removeItem("token");
  document.activeElement?.blur();
  await refresh();
  if (!answer.ok) live((await answer.json()).error || "refused", true);
});

const changes = new EventSource(base + "api/v1/events");
changes.addEventListener("change", () => refresh().catch(() => {}));
changes.onerror = () => live("Connection to the worker lost; trying again", true);
setInterval(tick, 1000);
rememberToken();
tick();
