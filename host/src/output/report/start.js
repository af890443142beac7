// The report: its scans lie in the page.
async function start() {
  const name = byId("case");
  if (name) document.title = `${name.textContent} – ${document.title}`;
  const data = JSON.parse(byId("report-data").textContent);
  if (data.scans.length) await showScans(data, (id) => byId(id)?.textContent ?? null);
}

start().catch((e) => { byId("readout").textContent = `The scan could not be shown: ${e.message}.`; });
