// What the server is asked, with the token that this tab keeps.

const KEY = "anymc3d-token";

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (text) => sessionStorage.setItem(KEY, text),
  forget: () => sessionStorage.removeItem(KEY),
};

function headers() {
  const sent = token.get();
  return sent === null ? {} : { Authorization: `Bearer ${sent}` };
}

// The message of an answer that is an error: the server's line, or the status of whatever stands before it.
function errorOf(status, text) {
  let message = `the server answered with status ${status}`;
  try {
    message = JSON.parse(text).error ?? message;
  } catch {
    // A proxy's page.
  }
  if (status === 401) dispatchEvent(new CustomEvent("token-refused", { detail: token.get() !== null }));
  return new ApiError(status, message);
}

export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: headers(), cache: "no-store", credentials: "omit" });
  } catch (e) {
    if (e.name === "AbortError") throw e;
    throw new ApiError(0, "the server does not answer");
  }
  if (!response.ok) throw errorOf(response.status, await response.text());
  return response;
}

export const json = async (path, options) => (await ask(path, options)).json();
export const text = async (path) => (await ask(path)).text();
export const blob = async (path) => (await ask(path)).blob();

// Sends a scan and tells how much has gone; the job.
export function submit(path, body, sent) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    if (!(body instanceof FormData)) request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.addEventListener("progress", (e) => { if (e.lengthComputable) sent(e.loaded / e.total); });
    request.addEventListener("load", () => {
      if (request.status === 200 || request.status === 202) resolve(JSON.parse(request.responseText));
      else reject(errorOf(request.status, request.responseText));
    });
    // A server that refuses a large body hangs up before it has read it all.
    request.addEventListener("error", () => reject(new ApiError(0, "the connection ended before the server had answered")));
    request.send(body);
  });
}

// Server-Sent Events, read by `fetch`: an EventSource sends no token. `heard` gets each event's name and data.
export async function follow(path, heard, signal) {
  const reader = (await ask(path, { signal })).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const lines = event.split("\n");
      const of = (field) => lines.find((line) => line.startsWith(`${field}: `))?.slice(field.length + 2);
      if (of("event")) heard(of("event"), JSON.parse(of("data")));
    }
  }
}

// Puts a file of a result into the reader's folder of downloads.
export async function download(path, name) {
  const address = URL.createObjectURL(await blob(path));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
