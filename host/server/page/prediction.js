// What an answer says: probabilities with their thresholds, values on a scale, how unusual the scan is.

import { el, percent, svg } from "./dom.js";

// 0 to 1 from left to right.
function bar(p) {
  const x = (v) => 2 + 196 * Math.min(1, Math.max(0, v));
  return svg("svg", { class: "probability", viewBox: "0 0 200 16", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "ground", x: 2, y: 4, width: 196, height: 8, rx: 2 }),
    svg("rect", { class: p.positive ? "bar positive" : "bar", x: 2, y: 4, width: x(p.probability) - 2, height: 8, rx: 2 }),
    p.threshold === null ? null : svg("line", { class: "threshold", x1: x(p.threshold), x2: x(p.threshold), y1: 0, y2: 16 }));
}

function decision(p) {
  if (p.threshold === null) return p.positive ? "most probable" : "less probable";
  return p.positive ? `positive: at or above the threshold of ${percent(p.threshold)}` : `negative: below the threshold of ${percent(p.threshold)}`;
}

function calibration(p) {
  const parts = [];
  if (p.temperature !== undefined) parts.push(`Calibrated: logit ${p.logit.toFixed(3)}, temperature ${p.temperature.toFixed(3)}, fitted on validation cases.`);
  else parts.push(`Not calibrated: no temperature is stored with the weights. Logit ${p.logit.toFixed(3)}.`);
  if (p.spread) {
    const [low, high] = p.spread.probability;
    parts.push(`${p.spread.members} members of the ensemble say ${percent(low)} to ${percent(high)}.`);
  }
  return parts.join(" ");
}

function prediction(p) {
  return el("div", { class: "prediction" },
    el("div", { class: "head" }, el("b", {}, p.label), el("span", { class: "figure" }, percent(p.probability))),
    bar(p),
    el("p", { class: p.positive ? "decision positive-text" : "decision" }, decision(p)),
    el("p", { class: "quiet" }, calibration(p)));
}

const short = (v) => (Number.isInteger(v) ? String(v) : v.toPrecision(4));

function value(v) {
  const [low, high] = v.range;
  const share = high > low ? (v.value - low) / (high - low) : 0;
  const level = v.level === undefined ? null : `level ${short(v.level)}`;
  return el("div", { class: "prediction" },
    el("div", { class: "head" }, el("b", {}, v.label), el("span", { class: "figure" }, level ?? short(v.value))),
    bar({ probability: share, threshold: null, positive: true }),
    el("p", { class: "quiet" }, level ? `Expected level ${short(v.value)}` : "Value", ` on a scale from ${short(low)} to ${short(high)}.`));
}

// How far the scan lies from those that the plugin was trained on, where the plugin has a reference.
function novelty(n) {
  if (!n) return null;
  const told = `Its distance from ${n.reference_cases} reference cases is ${short(n.distance)}, percentile ${n.percentile.toFixed(1)} of theirs.`;
  return el("div", { class: n.outside ? "fault" : "note" },
    el("h3", {}, n.outside ? "The scan is unlike the reference cases" : "The scan is like the reference cases"),
    el("p", {}, n.outside ? "The answer is not to be relied on. " : "", told));
}

export function predictions(result) {
  const all = result.predictions.map(prediction);
  const values = (result.values ?? []).map(value);
  const segmentation = result.segmentation;
  return el("section", { "aria-labelledby": "answer-title" },
    el("h3", { id: "answer-title" }, result.plugin.summary || result.plugin.name),
    el("p", { class: "quiet" }, `Case ${result.case} · ${result.plugin.name} ${result.plugin.version}`),
    el("div", { class: "predictions" }, values),
    values.length
      ? el("details", {}, el("summary", {}, "Each output"), el("div", { class: "predictions" }, all))
      : el("div", { class: "predictions" }, all),
    segmentation ? el("p", {}, `Segmented: ${segmentation.volume_ml.toFixed(2)} ml in ${segmentation.voxels} voxels, by view ${segmentation.view}.`) : null,
    novelty(result.novelty));
}
