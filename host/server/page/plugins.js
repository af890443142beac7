// The plugins that are served: cards, and the choice of those that are asked.

import { json } from "./api.js";
import { byId, el, facts, show } from "./dom.js";

let served = [];
let shown = "";

// The names that are chosen.
export function chosen() {
  return [...byId("asked").querySelectorAll("input:checked")].map((box) => box.value);
}

// What a plugin that looks at a finding has to be told: a point or a mask, or a mask; null for one that looks at the whole scan.
function where(plugin) {
  const regions = plugin.parameters.region.split(",");
  if (regions.includes("mask")) return "a mask";
  return regions.includes("point") ? "a point or a mask" : null;
}

// The first plugin of those that are chosen that lacks what it has to be told, in a sentence; null where none does.
export function lacking(point, mask) {
  const lacks = (plugin) => !mask && (where(plugin) === "a mask" || (where(plugin) !== null && !point));
  const first = served.find((plugin) => chosen().includes(plugin.name) && lacks(plugin));
  return first ? `${first.name} looks at a finding: give ${where(first)}, or do not ask it.` : null;
}

function card(plugin) {
  const about = plugin.parameters;
  const ready = plugin.state === "READY";
  const digests = [
    ["Weights, sha256", about.weights_sha256.split(",").join(", "), true],
    ["Library, sha256", about.library_sha256, true],
    ["Backbone", `${about.backbone}, ${about.precision}`],
    ["Backbone, sha256", about.backbone_sha256, true],
    ["Licence", about.license],
  ];
  return el("article", { class: "card" },
    el("div", { class: "head" },
      el("h3", {}, plugin.name, " ", el("span", { class: "quiet" }, plugin.versions[0])),
      el("span", { class: ready ? "state good" : "state bad" }, ready ? "ready" : "quarantined")),
    about.summary ? el("p", { class: "question" }, about.summary) : null,
    ready ? null : el("p", { class: "fault" }, `It is not asked: ${plugin.reason}`),
    facts([
      ["Labels", about.labels.split(",").join(", ")],
      ["Modality", [...new Set(about.modality.split(","))].join(", ")],
      ["Intended use", about.intended_use],
      where(plugin) ? ["Looks at", `a finding, by ${where(plugin)}`] : null,
    ]),
    el("details", {}, el("summary", {}, "Versions and digests"), facts(digests)));
}

function choice(plugin, checked) {
  const ready = plugin.state === "READY";
  const box = el("input", { type: "checkbox", value: plugin.name, change: showWhere });
  box.checked = ready && checked;
  box.disabled = !ready;
  const summary = ready ? plugin.parameters.summary : "quarantined: it is not asked";
  return el("label", { class: "choice" }, box, el("span", {}, el("b", {}, plugin.name), " ", el("span", { class: "quiet" }, summary)));
}

// The fields are there where a chosen plugin looks at a finding.
function showWhere() {
  const names = chosen();
  const takers = served.filter((plugin) => where(plugin) && names.includes(plugin.name));
  show(byId("where"), takers.length > 0);
  byId("where-hint").textContent = takers.map((plugin) => `${plugin.name} asks for ${where(plugin)}.`).join(" ");
}

export async function showPlugins() {
  const [server, index] = await Promise.all([json("/v2"), json("/v2/repository/index", { method: "POST" })]);
  const about = await Promise.all(index.map((entry) => json(`/v2/models/${encodeURIComponent(entry.name)}`)));
  // Nothing moves under whoever reads it.
  const now = JSON.stringify([server, index, about]);
  if (now === shown) return;
  shown = now;
  const before = new Map([...byId("asked").querySelectorAll("input")].map((box) => [box.value, box.checked]));
  served = about.map((plugin, i) => ({ ...plugin, state: index[i].state, reason: index[i].reason }));
  byId("version").textContent = `Server: ${server.name} ${server.version}`;
  byId("cards").replaceChildren(...served.map(card));
  const choices = served.map((plugin) => choice(plugin, before.get(plugin.name) ?? where(plugin) === null));
  byId("asked").replaceChildren(byId("asked").querySelector("legend"), ...choices);
  showWhere();
}
