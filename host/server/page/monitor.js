// The page at `/monitor`: distances of scans from a plugin's reference cases, over time.

import { json } from "./api.js";
import { byId, el, fault, svg, time } from "./dom.js";
import { useTokens } from "./token.js";

const [WIDE, HIGH, LEFT, RIGHT, TOP, BOTTOM] = [960, 300, 60, 16, 16, 40];
const TICKS = 5;

// Round steps for an axis from 0 to `most`.
function ticks(most) {
  const raw = most / TICKS;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw) ?? raw;
  return Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, i) => i * step);
}

const short = (v) => String(Number(v.toPrecision(4)));

// `results`: the oldest first.
function chart(plugin, results) {
  const limit = plugin.reference?.percentile_99_5;
  const times = results.map((r) => new Date(r.time).getTime());
  const [from, to] = [times[0], times.at(-1)];
  const most = Math.max(limit ?? 0, ...results.map((r) => r.distance)) * 1.08 || 1;
  const x = (t) => LEFT + (WIDE - LEFT - RIGHT) * (to > from ? (t - from) / (to - from) : 0.5);
  const y = (d) => HIGH - BOTTOM - (HIGH - BOTTOM - TOP) * (d / most);
  const outside = results.filter((r) => r.outside).length;
  const label = `${plugin.name}: distance of ${results.length} scans from ${time(results[0].time)} to ${time(results.at(-1).time)}, ` +
    `${outside} of them outside of the reference${limit === undefined ? "" : `, whose limit is ${short(limit)}`}. The table below has each.`;
  const lines = ticks(most).flatMap((d) => [
    svg("line", { class: "grid", x1: LEFT, x2: WIDE - RIGHT, y1: y(d), y2: y(d) }),
    svg("text", { x: LEFT - 8, y: y(d) + 4, "text-anchor": "end" }, short(d)),
  ]);
  const points = results.map((r, i) => {
    const told = svg("title", {}, `${time(r.time)}: distance ${short(r.distance)}${r.outside ? ", outside" : ""}`);
    return svg("circle", { class: r.outside ? "outside" : "inside", cx: x(times[i]), cy: y(r.distance), r: r.outside ? 5 : 3.5 }, told);
  });
  return svg("svg", { class: "chart", viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": label },
    lines,
    svg("polyline", { class: "line", fill: "none", points: results.map((r, i) => `${x(times[i]).toFixed(1)},${y(r.distance).toFixed(1)}`).join(" ") }),
    limit === undefined ? null : svg("line", { class: "limit", x1: LEFT, x2: WIDE - RIGHT, y1: y(limit), y2: y(limit) }),
    points,
    svg("text", { x: LEFT, y: HIGH - 12 }, time(results[0].time)),
    svg("text", { x: WIDE - RIGHT, y: HIGH - 12, "text-anchor": "end" }, to > from ? time(results.at(-1).time) : ""));
}

function legend(plugin) {
  const mark = (shape, text) => el("span", {}, svg("svg", { class: "chart", viewBox: "0 0 26 12", "aria-hidden": "true" }, shape), text);
  return el("p", { class: "legend" },
    mark(svg("circle", { class: "inside", cx: 13, cy: 6, r: 3.5 }), "like the reference cases"),
    mark(svg("circle", { class: "outside", cx: 13, cy: 6, r: 5 }), "outside"),
    mark(svg("line", { class: "limit", x1: 1, x2: 25, y1: 6, y2: 6 }), `limit: 99.5 % of the reference cases lie below ${short(plugin.reference.percentile_99_5)}`));
}

function table(results) {
  const head = ["Time", "Case", "Distance", "Percentile", "", ""].map((name) => (name ? el("th", { scope: "col" }, name) : el("td")));
  const row = (r) => el("tr", {},
    el("td", {}, time(r.time)), el("td", {}, r.case), el("td", {}, short(r.distance)),
    el("td", {}, typeof r.percentile === "number" ? r.percentile.toFixed(1) : "–"),
    el("td", { class: r.outside ? "state bad" : null }, r.outside ? "outside" : ""),
    el("td", {}, el("a", { href: `/#job=${r.job}`, "aria-label": `Job of ${time(r.time)}` }, "job")));
  return el("details", {}, el("summary", {}, "As a table"),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Distances" },
      el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, [...results].reverse().map(row)))));
}

function section(plugin) {
  const results = [...plugin.results].sort((a, b) => new Date(a.time) - new Date(b.time));
  const reference = plugin.reference ? `${plugin.reference.cases} reference cases` : "no reference cases: its scans are compared with nothing";
  const parts = [el("h3", {}, plugin.name, " ", el("span", { class: "quiet" }, reference))];
  if (results.length) parts.push(chart(plugin, results), plugin.reference ? legend(plugin) : null, table(results));
  else if (plugin.reference) parts.push(el("p", { class: "quiet" }, "No scan has been answered yet."));
  return el("section", {}, parts);
}

async function start() {
  const [plugin, limit] = [byId("plugin").value, byId("limit").value];
  const query = new URLSearchParams({ limit, ...(plugin ? { plugin } : {}) });
  try {
    const told = await json(`/monitor.json?${query}`);
    fault("page-fault", "");
    byId("charts").replaceChildren(...told.plugins.map(section));
    byId("state").textContent = told.plugins.length ? `Read at ${time(new Date().toISOString())}.` : "No plugin is served.";
    if (!plugin) {
      byId("plugin").replaceChildren(el("option", { value: "" }, "all"), ...told.plugins.map((p) => el("option", { value: p.name }, p.name)));
    }
  } catch (e) {
    byId("charts").replaceChildren();
    byId("state").textContent = "";
    if (e.status === 404) fault("page-fault", "This server keeps no distances: it is a version without a monitor.");
    else if (e.status !== 401) fault("page-fault", `The distances cannot be read: ${e.message}.`);
  }
}

useTokens(start);
byId("asked").addEventListener("submit", (e) => {
  e.preventDefault();
  start();
});
start();
