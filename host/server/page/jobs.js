// The list of jobs, and the one that is looked at: its place in the queue, its progress, its end.

import { ask, follow, json } from "./api.js";
import { byId, bytes, el, fault, percent, seconds, show, time } from "./dom.js";
import { closeAnswer, showAnswers } from "./result.js";

const LISTED = 50;
const STATES = {
  queued: ["waits", ""], running: ["runs", "busy"], done: ["done", "good"], partly_failed: ["partly failed", "bad"],
  failed: ["failed", "bad"],
};
const STAGES = ["reading the scan", "the backbone", "adapter apply", "forward", "segmentation logits", "writing the answer"];
const STAGE_NAMES = ["reads the scan", "backbone", "adapter", "head", "segmentation", "writes the answer"];
const isFinal = (state) => state !== "queued" && state !== "running";

let looked = null;
let listed = "";
let following = null;

function chip(node, state) {
  const [name, kind] = STATES[state] ?? [state, ""];
  node.textContent = name;
  node.className = `state ${kind}`;
  return node;
}

// What a job's answers say, in one line.
function inShort(job) {
  if (job.results.length === 0) return job.plugins.join(", ");
  const top = (predictions) => predictions.filter((p) => p.positive)[0] ?? predictions[0];
  return job.results.map((result) => {
    const p = top(result.predictions);
    return p ? `${result.plugin}: ${p.label} ${percent(p.probability)}` : result.plugin;
  }).join("; ");
}

function entry(job) {
  const when = time(job.created);
  return el("li", { class: job.id === looked ? "looked" : null },
    el("div", { class: "head" }, el("span", {}, when), chip(el("span"), job.state)),
    el("p", {}, inShort(job)),
    el("div", { class: "row" },
      el("a", { class: "button", href: `#job=${job.id}`, "aria-label": `Show the job of ${when}` }, "Show"),
      el("button", { type: "button", "aria-label": `Delete the job of ${when}`, disabled: job.state === "running", click: () => remove(job) },
        "Delete")));
}

export async function showJobs() {
  const { jobs, waiting } = await json(`/jobs?limit=${LISTED}`);
  fault("jobs-fault", "");
  byId("waiting").textContent = waiting ? `${waiting} wait` : "";
  // Nothing moves under whoever reads it.
  const now = JSON.stringify([jobs, new Date().toDateString()]);
  if (now === listed) return;
  listed = now;
  const list = byId("job-list");
  // Whoever stands on a button of a job stands on it afterwards.
  const held = list.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
  list.replaceChildren(...jobs.map(entry));
  if (held) [...list.querySelectorAll("a, button")].find((node) => node.getAttribute("aria-label") === held)?.focus();
  show(byId("no-jobs"), jobs.length === 0);
}

export const refreshJobs = () => showJobs().catch((e) => fault("jobs-fault", `The list cannot be read: ${e.message}.`));

async function remove(job) {
  if (!confirm(`Delete the job of ${time(job.created)} with its scan and its results?`)) return;
  try {
    await ask(`/jobs/${job.id}`, { method: "DELETE" });
    if (looked === job.id) location.hash = "";
  } catch (e) {
    fault("jobs-fault", `The job is not deleted: ${e.message}.`);
    return;
  }
  await refreshJobs();
  byId("refresh").focus();
}

function messages(job) {
  const of = (f) => [f.plugin, f.case].filter(Boolean).join(", ");
  const failures = job.failures.map((f) => el("li", {}, of(f) ? el("b", {}, `${of(f)}: `) : null, f.message, el("span", { class: "quiet" }, ` (${f.blame})`)));
  const notices = job.notices.map((notice) => el("li", {}, notice));
  byId("job-said").replaceChildren(
    ...failures.length ? [el("div", { class: "fault" }, el("h3", {}, "Failures"), el("ul", {}, failures))] : [],
    ...notices.length ? [el("div", {}, el("h3", {}, "About the scan"), el("ul", {}, notices))] : []);
}

function about(job) {
  const all = [`submitted ${time(job.created)} by ${job.submitter.name}`, bytes(job.upload_bytes), `asked: ${job.plugins.join(", ")}`];
  if (job.started && job.ended) all.push(`took ${seconds(new Date(job.ended) - new Date(job.started))}`);
  byId("job-about").textContent = all.join(" · ");
}

function live(text) {
  // The same text is not read out again.
  if (byId("job-live").textContent !== text) byId("job-live").textContent = text;
}

function waits(place) {
  live(place ? `Waits: place ${place} in the queue.` : "Waits in the queue.");
  byId("job-progress").removeAttribute("value");
}

// `plugins`: those that are asked, in their order.
function runs(progress, plugins) {
  const stage = STAGES.indexOf(progress.stage);
  const at = plugins.indexOf(progress.plugin);
  live(progress.plugin ? `Runs: ${progress.plugin}, ${STAGE_NAMES[stage] ?? progress.stage}.` : "Runs.");
  const bar = byId("job-progress");
  if (stage < 0 || at < 0) bar.removeAttribute("value");
  else bar.value = (at + stage / STAGES.length) / plugins.length;
}

function ended(job) {
  chip(byId("job-state"), job.state);
  about(job);
  messages(job);
  show(byId("job-progress"), false);
  showAnswers(job);
  refreshJobs();
}

// Follows a job until it ends, over connections that end before.
async function watch(job, signal) {
  let over = false;
  let state = job.state;
  const look = async () => {
    if (over || state !== "queued") return;
    const now = await json(`/jobs/${job.id}`, { signal });
    if (!over && state === "queued") waits(now.place);
  };
  const places = setInterval(() => look().catch(() => {}), 2000);
  signal.addEventListener("abort", () => clearInterval(places));
  try {
    while (!over && !signal.aborted) {
      const heard = (name, data) => {
        if (signal.aborted) return;
        if (name === "end") {
          over = true;
          live(`The job is ${STATES[data.state]?.[0] ?? data.state}: ${inShort(data)}.`);
          ended(data);
          return;
        }
        if (state !== data.state) refreshJobs();
        state = data.state;
        chip(byId("job-state"), state);
        if (state === "running") runs(data, job.plugins);
        else if (state === "queued") look().catch(() => {});
      };
      try {
        await follow(`/jobs/${job.id}/events`, heard, signal);
      } catch (e) {
        if (signal.aborted) return;
        // 404: it was deleted.
        if ([401, 403, 404].includes(e.status)) throw e;
        live("The server does not answer; asking again.");
      }
      if (!over) await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  } finally {
    clearInterval(places);
  }
}

function leave() {
  following?.abort();
  following = null;
  looked = null;
  closeAnswer();
}

export async function look(id) {
  leave();
  const section = byId("job");
  if (!id) {
    show(section, false);
    return;
  }
  looked = id;
  following = new AbortController();
  const { signal } = following;
  const title = byId("job-title");
  title.textContent = `Job ${id.slice(0, 8)}`;
  byId("job-said").replaceChildren();
  byId("job-about").textContent = "";
  byId("job-state").textContent = "";
  byId("job-live").textContent = "";
  show(byId("job-progress"), false);
  show(section, true);
  section.scrollIntoView({ block: "start" });
  title.focus({ preventScroll: true });
  for (const entry of byId("job-list").children) {
    entry.classList.toggle("looked", entry.querySelector("a").hash === `#job=${id}`);
  }
  try {
    const job = await json(`/jobs/${encodeURIComponent(id)}`, { signal });
    if (isFinal(job.state)) {
      ended(job);
      return;
    }
    about(job);
    messages(job);
    chip(byId("job-state"), job.state);
    show(byId("job-progress"), true);
    if (job.state === "queued") waits(job.place);
    else runs(job, job.plugins);
    await watch(job, signal);
  } catch (e) {
    if (signal.aborted) return;
    live("");
    show(byId("job-progress"), false);
    byId("job-said").replaceChildren(el("p", { class: "fault", role: "alert" }, `The job cannot be shown: ${e.message}.`));
  }
}
