// An answer of a job: what it says, the scan with the heat, the slices that counted, what ran, the files.

import { blob, download, json, text, token } from "./api.js";
import { byId, el, facts, percent, show } from "./dom.js";
import { predictions } from "./prediction.js";

const PLANES = [["sagittal", "R"], ["coronal", "A"], ["axial", "S"]];
const FILES = {
  "result.json": "Record (JSON)", "heatmap.nii.gz": "Heatmap (NIfTI)", "preview.png": "Picture of the slices (PNG)",
  "report.html": "Report (HTML)", "segmentation.nii.gz": "Segmentation (NIfTI)",
  "sr.dcm": "Report (DICOM SR)", "heatmap.dcm": "Heatmap (DICOM)", "preview.dcm": "Picture (DICOM)", "segmentation.dcm": "Segmentation (DICOM)",
};

// Counts the answers that were opened: one that comes late is not shown.
let opened = 0;
let picture = null;

const nameOf = (path) => path.split("/").at(-1);

export function closeAnswer() {
  opened += 1;
  show(byId("viewer"), false);
  show(byId("answers"), false);
  for (const id of ["answers", "answer", "answer-rest"]) byId(id).replaceChildren();
  byId("viewer-state").textContent = "";
  if (picture) URL.revokeObjectURL(picture);
  picture = null;
}

// Buttons for the answers where there are several, and the first of them.
export function showAnswers(job) {
  closeAnswer();
  const many = new Set(job.results.map((result) => result.case)).size > 1;
  const buttons = job.results.map((result, i) => {
    const name = many ? `${result.plugin}, ${result.case}` : result.plugin;
    return el("button", { type: "button", "aria-pressed": i === 0 ? "true" : "false", click: () => choose(i) }, name);
  });
  const choose = (chosen) => {
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", i === chosen ? "true" : "false"));
    showAnswer(job.results[chosen]);
  };
  byId("answers").replaceChildren(...buttons);
  show(byId("answers"), buttons.length > 1);
  if (buttons.length) choose(0);
}

async function showAnswer(answer) {
  opened += 1;
  const mine = opened;
  const path = (name) => answer.files.find((file) => nameOf(file) === name && !file.includes("/dicom/"));
  show(byId("viewer"), false);
  byId("answer-rest").replaceChildren();
  const fault = (e) => el("p", { class: "fault", role: "alert" }, `The answer cannot be shown: ${e.message}.`);
  try {
    const result = await json(path("result.json"));
    if (mine !== opened) return;
    byId("answer").replaceChildren(el("div", { class: "said" }, predictions(result), warnings(result)));
    const scans = await showScan(path("report.html"), () => mine === opened);
    if (mine !== opened) return;
    byId("answer-rest").replaceChildren(...[slices(result, scans), files(answer), provenance(result)].filter(Boolean));
    await showPicture(path("preview.png"), () => mine === opened);
  } catch (e) {
    if (mine === opened) byId("answer").replaceChildren(fault(e));
  }
}

function warnings(result) {
  const list = result.warnings.map((warning) => el("li", {}, warning));
  return el("div", { class: "warnings" },
    list.length ? el("div", { class: "warn" }, el("h3", {}, "Warnings"), el("ul", {}, list)) : el("div", {}, el("h3", {}, "Warnings"), el("p", { class: "quiet" }, "None.")),
    el("h3", {}, "Intended use"), el("p", {}, result.intended_use));
}

// What stands between the tags of an element of the report that has data; base64 and this JSON have no `<`.
function dataOf(report, id) {
  const mark = ` id="${id}">`;
  const begin = report.indexOf(mark);
  if (begin < 0) return null;
  return report.slice(begin + mark.length, report.indexOf("<", begin + mark.length));
}

// The scan, the heat and the mask lie in the report, on one grid and without identity: the viewer shows what the report shows.
// What the report says of its scans; null where there is none.
async function showScan(path, current) {
  const said = byId("viewer-state");
  if (!path) {
    said.textContent = "There is no picture: the server writes no reports (--no-report).";
    return null;
  }
  said.textContent = "Loads the scan.";
  try {
    const report = await text(path);
    const told = JSON.parse(dataOf(report, "report-data"));
    if (!current() || told.scans.length === 0) return null;
    byId("scans").replaceChildren(...told.scans.map((scan, i) =>
      el("option", { value: i }, (scan.views ?? []).map((view) => view.name).join(", ") || `scan ${i + 1}`)));
    show(byId("scans-label"), told.scans.length > 1);
    show(byId("mask-label"), dataOf(report, "mask-0") !== null);
    show(byId("viewer"), true);
    await globalThis.showScans(told, (id) => dataOf(report, id));
    if (current()) said.textContent = "";
    return told.scans;
  } catch (e) {
    if (current()) {
      show(byId("viewer"), false);
      said.textContent = `The scan cannot be shown: ${e.message}.`;
    }
    return null;
  }
}

function slices(result, scans) {
  const parts = result.views.map((view) => {
    const scan = (scans ?? []).findIndex((scan) => scan.views?.some((v) => v.name === view.name));
    const axis = scan < 0 ? null : scans[scan].views.find((v) => v.name === view.name).axis;
    const weight = view.view_weight === undefined ? "" : `, weight ${percent(view.view_weight)}`;
    if (view.top_slices.length === 0) return el("p", { class: "quiet" }, `View ${view.name}${weight}: the plugin's head tells no weights of slices.`);
    const [plane, letter] = PLANES[axis] ?? [null, ""];
    const most = view.top_slices[0].weight || 1;
    const row = (top) => {
      const place = `${letter} ${top.position_mm >= 0 ? "+" : "−"}${Math.abs(top.position_mm).toFixed(1)} mm`.trim();
      const show = plane === null ? null : el("button", {
        type: "button", "data-scan": scan, "data-axis": axis, "data-plane": plane, "data-place": top.position_mm,
        "aria-label": `Show slice ${top.index} at ${place}`,
      }, "Show");
      return el("tr", {}, el("th", { scope: "row" }, String(top.index)), el("td", {}, place),
        el("td", {}, percent(top.weight), el("progress", { max: most, value: top.weight, "aria-hidden": "true" })), el("td", {}, show));
    };
    const heads = ["Slice", "Place", "Weight", "In the viewer"].map((name) => el("th", { scope: "col" }, name));
    return el("div", {},
      el("h4", {}, `View ${view.name}${weight}`),
      el("table", { class: "slices" }, el("thead", {}, el("tr", {}, heads)), el("tbody", {}, view.top_slices.slice(0, 5).map(row))));
  });
  return el("section", { "aria-labelledby": "slices-title" }, el("h3", { id: "slices-title" }, "Slices that counted"),
    el("div", { class: "slicing" }, el("div", {}, parts), el("figure", { id: "picture", class: "montage", hidden: true })));
}

async function showPicture(path, current) {
  if (!path) return;
  const bytes = await blob(path);
  if (!current()) return;
  if (picture) URL.revokeObjectURL(picture);
  picture = URL.createObjectURL(bytes);
  const figure = byId("picture");
  figure.replaceChildren(
    el("img", { src: picture, alt: "The slices that counted most, plain above and with the heat below; the table has their places" }),
    el("figcaption", {}, "As the model saw them, plain above and with the heat below."));
  show(figure, true);
}

function files(answer) {
  const item = (path) => {
    const file = nameOf(path);
    const name = `${answer.case}-${answer.plugin}-${file}`;
    const failed = (e, place) => { place.textContent = ` ${e.message}`; };
    const place = el("span", { class: "quiet", role: "status" });
    // A link of its own would send no token.
    const link = el("a", {
      href: path, download: name,
      click: (e) => {
        if (token.get() === null) return;
        e.preventDefault();
        download(path, name).catch((e) => failed(e, place));
      },
    }, FILES[file] ?? file);
    const open = file === "report.html" && token.get() === null ? el("a", { href: path, target: "_blank", rel: "noopener" }, "open") : null;
    return el("li", {}, link, open ? " · " : null, open, place);
  };
  return el("section", { "aria-labelledby": "files-title" }, el("h3", { id: "files-title" }, "Files"),
    el("ul", { class: "files" }, answer.files.map(item)));
}

function provenance(result) {
  const p = result.plugin;
  const from = p.package
    ? `package by ${p.package.publisher} (registry ${p.package.registry})${p.package.weights_replaced ? ", with weights of your own" : ""}`
    : "local files, not signed by anybody";
  const input = result.input;
  const timing = Object.entries(result.timing_ms).filter(([name, ms]) => name !== "total" && ms > 0);
  const point = input.point_mm ? [["Point", `${input.point_mm.join(", ")} mm`]] : [];
  return el("section", { "aria-labelledby": "ran-title" }, el("h3", { id: "ran-title" }, "What ran"),
    facts([
      ["Plugin", `${p.name} ${p.version}, ${from}`],
      ["Backbone", `${result.backbone.name}, ${result.backbone.precision}`],
      ["Scan", `${input.shape.join(" × ")} voxels of ${input.spacing_mm.map((s) => s.toFixed(2)).join(" × ")} mm, ${input.orientation}, ${input.modality ?? input.modality_guess ?? "modality unknown"}`],
      ...point,
      ["Host", `${result.host} on ${result.device}`],
      ["Time", `${(result.timing_ms.total / 1000).toFixed(2)} s: ${timing.map(([name, ms]) => `${name} ${(ms / 1000).toFixed(2)}`).join(", ")}`],
    ]),
    el("details", {}, el("summary", {}, "Digests (sha256)"), facts([
      ["Scan", input.sha256, true],
      ...(input.other_views ?? []).map((other) => [`Scan of ${other.view}`, other.sha256, true]),
      input.mask_sha256 ? ["Mask", input.mask_sha256, true] : null,
      ["Library", p.sha256, true],
      ["Weights", p.weights_sha256, true],
      ...(p.further_weights_sha256 ?? []).map((digest) => ["Further weights", digest, true]),
      ["Backbone", result.backbone.sha256, true],
    ])));
}
