// Elements, text and formats. Text goes in as text nodes, whatever stands in it.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

// An element with attributes (a function is a listener, true an attribute without a value) and children, nodes or text.
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

export function show(node, shown) {
  node.hidden = !shown;
}

// A fault in a place of its own; an empty text hides it.
export function fault(id, text) {
  const place = byId(id);
  place.textContent = text;
  show(place, text !== "");
}

// As in pictures and on the terminal: one that is neither 0 nor 1 is not rounded to it.
export function percent(share) {
  if (share > 0 && share < 0.0005) return "< 0.1 %";
  if (share > 0.9995 && share < 1) return "> 99.9 %";
  return `${(100 * share).toFixed(1)} %`;
}

export function bytes(n) {
  const units = ["bytes", "kB", "MB", "GB"];
  let at = 0;
  while (n >= 1000 && at < units.length - 1) {
    n /= 1000;
    at += 1;
  }
  return `${at && n < 10 ? n.toFixed(1) : Math.round(n)} ${units[at]}`;
}

export function seconds(milliseconds) {
  const s = milliseconds / 1000;
  return s < 10 ? `${s.toFixed(1)} s` : s < 120 ? `${Math.round(s)} s` : `${Math.round(s / 60)} min`;
}

// Time of day where it is today, else the date with it.
export function time(text) {
  const at = new Date(text);
  const short = { hour: "2-digit", minute: "2-digit" };
  if (at.toDateString() === new Date().toDateString()) return at.toLocaleTimeString([], { ...short, second: "2-digit" });
  return at.toLocaleString([], { year: "numeric", month: "short", day: "numeric", ...short });
}

// A table of two columns.
export function facts(rows) {
  const row = ([name, value, isDigest]) =>
    el("tr", {}, el("th", { scope: "row" }, name), el("td", { class: isDigest ? "digest" : null }, value));
  return el("table", { class: "facts" }, el("tbody", {}, rows.filter(Boolean).map(row)));
}
