// A scan on its way to the server: chosen or dropped, looked at, sent.

import { submit } from "./api.js";
import { byId, bytes, fault, show } from "./dom.js";
import { chosen, lacking } from "./plugins.js";

let scan = [];

// Files below a folder that was dropped.
async function below(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const all = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) break;
    for (const inner of some) all.push(...await below(inner));
  }
  return all;
}

async function isDicom(file) {
  return file.name !== "DICOMDIR" && await file.slice(128, 132).text() === "DICM";
}

// One file is sent as it is, and the server tells by content what it is. Of several the DICOM files are sent.
async function take(files) {
  fault("send-fault", "");
  let note = "";
  if (files.length > 1) {
    const kinds = await Promise.all(files.map(isDicom));
    const dicom = files.filter((_, i) => kinds[i]);
    if (dicom.length === 0) {
      scan = [];
      byId("send").disabled = true;
      byId("chosen").textContent = "";
      fault("send-fault", `None of the ${files.length} files is DICOM. Send one NIfTI file, one zip, or DICOM files.`);
      return;
    }
    if (dicom.length < files.length) note = `; ${files.length - dicom.length} that are no DICOM are left out`;
    files = dicom;
  }
  if (files.length === 0) return;
  scan = files;
  const size = bytes(files.reduce((sum, file) => sum + file.size, 0));
  byId("chosen").textContent = files.length === 1 ? `${files[0].name}, ${size}${note}` : `${files.length} DICOM files, ${size}${note}`;
  byId("send").disabled = false;
  byId("send").focus();
}

// The names of files stay here: they may hold a patient's.
function bodyOf(files, mask) {
  if (files.length === 1 && !mask) return files[0];
  const form = new FormData();
  for (const file of files) form.append("scan", file, "scan");
  if (mask) form.append("mask", mask, "mask");
  return form;
}

async function send(sent) {
  const names = chosen();
  if (names.length === 0) throw new Error("Choose a plugin to ask.");
  const point = byId("where").hidden ? "" : byId("point").value.trim();
  const mask = byId("where").hidden ? null : byId("mask-file").files[0] ?? null;
  const lacks = lacking(point, mask);
  if (lacks) throw new Error(lacks);
  const query = new URLSearchParams(names.map((name) => ["plugin", name]));
  if (point) query.append("point", point);
  let half = false;
  byId("send-state").textContent = "Sending the scan.";
  const job = await submit(`/scans?${query}`, bodyOf(scan, mask), (share) => {
    byId("sent").value = share;
    // Not each step is read out.
    if (share >= 1) byId("send-state").textContent = "The scan has arrived.";
    else if (share >= 0.5 && !half) byId("send-state").textContent = "Half of the scan is sent.";
    half ||= share >= 0.5;
  });
  byId("send-state").textContent = "";
  scan = [];
  byId("chosen").textContent = "";
  sent(job);
}

// `sent` gets each new job.
export function useUpload(sent) {
  const [files, folder, drop] = [byId("files"), byId("folder"), byId("drop")];
  const failed = (e) => fault("send-fault", e.message);
  for (const [button, input] of [["choose-files", files], ["choose-folder", folder]]) {
    byId(button).addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      const list = [...input.files];
      // The same file can be chosen again.
      input.value = "";
      take(list).catch(failed);
    });
  }
  // A file that misses the field is not opened in its place.
  for (const kind of ["dragover", "drop"]) addEventListener(kind, (e) => e.preventDefault());
  drop.addEventListener("dragover", () => drop.classList.add("over"));
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (e) => {
    drop.classList.remove("over");
    const entries = [...e.dataTransfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry());
    Promise.all(entries.filter(Boolean).map(below)).then((all) => take(all.flat())).catch(failed);
  });
  byId("scan-form").addEventListener("submit", async (e) => {
    e.preventDefault();
    if (scan.length === 0) return;
    fault("send-fault", "");
    byId("sent").value = 0;
    byId("send").disabled = true;
    show(byId("sent"), true);
    try {
      await send(sent);
    } catch (e) {
      byId("send-state").textContent = "";
      failed(e);
    }
    show(byId("sent"), false);
    byId("send").disabled = scan.length === 0;
  });
}
