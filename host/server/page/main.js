// The page at `/`: begins, and goes on by the address's fragment, `#job=ID`.

import { byId, fault, show } from "./dom.js";
import { look, refreshJobs, showJobs } from "./jobs.js";
import { showPlugins } from "./plugins.js";
import { useTokens } from "./token.js";
import { useUpload } from "./upload.js";

const PACE = 15_000;

const jobOf = () => /^#job=([0-9a-f]{32})$/.exec(location.hash)?.[1] ?? null;

async function start() {
  try {
    await Promise.all([showPlugins(), showJobs()]);
  } catch (e) {
    // For a token there is a field.
    show(byId("columns"), false);
    if (e.status !== 401) fault("page-fault", `The server cannot be asked: ${e.message}.`);
    return;
  }
  fault("page-fault", "");
  show(byId("columns"), true);
  if (jobOf()) look(jobOf());
}

useTokens(start);
useUpload((job) => {
  refreshJobs();
  location.hash = `#job=${job.id}`;
});
addEventListener("hashchange", () => look(jobOf()));
byId("refresh").addEventListener("click", refreshJobs);
byId("close-job").addEventListener("click", () => {
  location.hash = "";
  byId("new").focus();
});
setInterval(() => {
  if (document.visibilityState === "visible" && !byId("columns").hidden) {
    refreshJobs();
    showPlugins().catch(() => {});
  }
}, PACE);
start();
