"use strict";
// Three planes of a scan with the heat over them: canvas only, nothing from the network. The report has this script in its page,
// the server's page loads it as a file; each of them calls `showScans`.
// Axes are 0 right, 1 anterior, 2 superior; all of them run up with the index.

const PLANES = {
  // The axis that is cut, those across and down the picture, and whether the picture runs against them. Radiological: the
  // patient's right is on the left.
  axial: { cut: 2, across: 0, down: 1, flipAcross: true, flipDown: true, letters: ["R", "L", "A", "P"], name: "S" },
  coronal: { cut: 1, across: 0, down: 2, flipAcross: true, flipDown: true, letters: ["R", "L", "S", "I"], name: "A" },
  sagittal: { cut: 0, across: 1, down: 2, flipAcross: true, flipDown: true, letters: ["A", "P", "S", "I"], name: "R" },
};
const LONGEST = 560;

const byId = (id) => document.getElementById(id);

async function unpack(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Differences along rows, low bytes before high bytes.
function numbersOf(bytes, row) {
  const n = bytes.length / 2;
  const out = new Uint16Array(n);
  for (let i = 0; i < n; i++) {
    const difference = bytes[i] | (bytes[n + i] << 8);
    out[i] = i % row === 0 ? difference : out[i - 1] + difference;
  }
  return out;
}

// Matplotlib's inferno by a polynomial, as the host's pictures have it.
function inferno(t) {
  const c = [
    [0.00021894, 0.001651, -0.0194809], [0.10651342, 0.56395644, 3.9327124], [11.602493, -3.972854, -15.942394],
    [-41.703995, 17.4364, 44.354145], [77.16294, -33.402360, -81.80731], [-71.31943, 32.626064, 73.20952],
    [25.131126, -12.242669, -23.070325],
  ];
  return [0, 1, 2].map((k) => {
    let v = 0;
    for (let i = 6; i >= 0; i--) v = v * t + c[i][k];
    return Math.round(255 * Math.min(1, Math.max(0, v)));
  });
}
const COLOURS = Array.from({ length: 256 }, (_, i) => {
  const t = i / 255;
  const strength = Math.min(1, Math.max(0, (t - 0.12) / 0.88));
  return [...inferno(0.25 + 0.75 * t), Math.pow(strength, 0.7)];
});

const state = { scan: null, at: [0, 0, 0], centre: 0, width: 1, opacity: 0.72, mask: true };

function mm(at) {
  return state.scan.affine.map((row) => row[0] * at[0] + row[1] * at[1] + row[2] * at[2] + row[3]);
}

function indexAt(at) {
  const [nx, ny] = state.scan.shape;
  return (at[2] * ny + at[1]) * nx + at[0];
}

function draw(name) {
  const plane = PLANES[name];
  const { scan, at } = state;
  const [w, h] = [scan.shape[plane.across], scan.shape[plane.down]];
  const canvas = byId("plane-" + name);
  const [wide, high] = [w * scan.spacing[plane.across], h * scan.spacing[plane.down]];
  const scale = LONGEST / Math.max(wide, high);
  canvas.width = Math.max(32, Math.round(wide * scale));
  canvas.height = Math.max(32, Math.round(high * scale));
  const small = document.createElement("canvas");
  small.width = w;
  small.height = h;
  const image = new ImageData(w, h);
  const low = state.centre - state.width / 2;
  const steps = [1, scan.shape[0], scan.shape[0] * scan.shape[1]];
  for (let row = 0; row < h; row++) {
    for (let column = 0; column < w; column++) {
      const i = plane.flipAcross ? w - 1 - column : column;
      const j = plane.flipDown ? h - 1 - row : row;
      const voxel = at[plane.cut] * steps[plane.cut] + i * steps[plane.across] + j * steps[plane.down];
      const value = scan.low + scan.scale * scan.voxels[voxel];
      const grey = 255 * Math.min(1, Math.max(0, (value - low) / state.width));
      const [r, g, b, strength] = COLOURS[scan.heat ? scan.heat[voxel] : 0];
      const cover = strength * state.opacity;
      const o = 4 * (row * w + column);
      image.data[o] = grey + (r - grey) * cover;
      image.data[o + 1] = grey + (g - grey) * cover;
      image.data[o + 2] = grey + (b - grey) * cover;
      image.data[o + 3] = 255;
      if (scan.mask && state.mask && scan.mask[voxel] >= 128) {
        image.data[o + 1] = Math.min(255, 0.55 * image.data[o + 1] + 115);
        image.data[o + 2] = Math.min(255, 0.55 * image.data[o + 2] + 115);
      }
    }
  }
  small.getContext("2d").putImageData(image, 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = true;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  crosshair(context, canvas, plane);
  letters(context, canvas, plane);
  describe(name, plane, canvas);
}

// Between 0 and 1 from the left and from the top.
function placeOf(plane) {
  const share = (axis, flip) => {
    const t = (state.at[axis] + 0.5) / state.scan.shape[axis];
    return flip ? 1 - t : t;
  };
  return [share(plane.across, plane.flipAcross), share(plane.down, plane.flipDown)];
}

function crosshair(context, canvas, plane) {
  const [x, y] = placeOf(plane).map((t, i) => t * [canvas.width, canvas.height][i]);
  context.strokeStyle = "rgba(120, 220, 255, 0.8)";
  context.lineWidth = 1;
  const gap = 12;
  context.beginPath();
  for (const [x0, y0, x1, y1] of [
    [0, y, x - gap, y], [x + gap, y, canvas.width, y], [x, 0, x, y - gap], [x, y + gap, x, canvas.height],
  ]) {
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
  }
  context.stroke();
}

function letters(context, canvas, plane) {
  const [left, right, top, bottom] = plane.letters;
  context.font = "bold 18px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineWidth = 4;
  for (const [letter, x, y] of [
    [left, 14, canvas.height / 2], [right, canvas.width - 14, canvas.height / 2],
    [top, canvas.width / 2, 14], [bottom, canvas.width / 2, canvas.height - 14],
  ]) {
    context.strokeStyle = "black";
    context.strokeText(letter, x, y);
    context.fillStyle = "#ffd65c";
    context.fillText(letter, x, y);
  }
}

function describe(name, plane, canvas) {
  const place = mm(state.at)[plane.cut];
  const slider = byId("slice-" + name);
  slider.max = state.scan.shape[plane.cut] - 1;
  slider.value = state.at[plane.cut];
  const text = `${plane.name} ${place >= 0 ? "+" : ""}${place.toFixed(1)} mm`;
  slider.setAttribute("aria-valuetext", text);
  byId("place-" + name).textContent = text;
  canvas.setAttribute("aria-label", `${name} plane at ${text}, window ${windowText()}`);
}

function windowText() {
  return `${number(state.centre - state.width / 2)} to ${number(state.centre + state.width / 2)}`;
}

function number(v) {
  return Math.abs(v) >= 100 ? v.toFixed(0) : v.toPrecision(3);
}

let waiting = false;
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    if (!state.scan) return;
    for (const name of Object.keys(PLANES)) draw(name);
    const { scan, at } = state;
    const voxel = indexAt(at);
    const value = number(scan.low + scan.scale * scan.voxels[voxel]);
    const heat = scan.heat ? `, heat ${Math.round(scan.heat[voxel] / 2.55)} % of the strongest` : "";
    const [r, a, s] = mm(at).map((v) => v.toFixed(1));
    byId("readout").textContent = `R ${r}, A ${a}, S ${s} mm: value ${value}${heat}; window ${windowText()}`;
  });
}

function moveTo(axis, index) {
  const last = state.scan.shape[axis] - 1;
  state.at[axis] = Math.min(last, Math.max(0, Math.round(index)));
  redraw();
}

// The cell nearest to a place in mm along an axis, the others as they are.
function nearest(axis, place) {
  let best = 0;
  let least = Infinity;
  for (let i = 0; i < state.scan.shape[axis]; i++) {
    const at = [...state.at];
    at[axis] = i;
    const off = Math.abs(mm(at)[axis] - place);
    if (off < least) [best, least] = [i, off];
  }
  return best;
}

function setWindow(low, high) {
  state.width = Math.max(high - low, state.scan.scale);
  state.centre = (low + high) / 2;
  const [most, least] = [state.scan.high, state.scan.low];
  const range = Math.max(most - least, state.scan.scale);
  for (const [id, value, min, max] of [
    ["centre", state.centre, least, most], ["width", state.width, range / 500, range],
  ]) {
    const input = byId(id);
    input.min = min;
    input.max = max;
    input.step = range / 1000;
    input.value = value;
    input.setAttribute("aria-valuetext", number(value));
  }
  redraw();
}

function listen() {
  for (const [name, plane] of Object.entries(PLANES)) {
    const canvas = byId("plane-" + name);
    byId("slice-" + name).addEventListener("input", (e) => moveTo(plane.cut, +e.target.value));
    canvas.addEventListener("keydown", (e) => {
      const last = state.scan.shape[plane.cut] - 1;
      const at = state.at[plane.cut];
      const to = {
        ArrowUp: at + 1, ArrowRight: at + 1, ArrowDown: at - 1, ArrowLeft: at - 1, PageUp: at + 10, PageDown: at - 10,
        Home: 0, End: last,
      }[e.key];
      if (to === undefined) return;
      e.preventDefault();
      moveTo(plane.cut, to);
    });
    // The wheel scrolls slices once the picture has the focus, and the page until then.
    canvas.addEventListener("wheel", (e) => {
      if (document.activeElement !== canvas) return;
      e.preventDefault();
      moveTo(plane.cut, state.at[plane.cut] + (e.deltaY < 0 ? 1 : -1));
    }, { passive: false });
    const point = (e) => {
      const box = canvas.getBoundingClientRect();
      const share = (t, axis, flip) => {
        const along = flip ? 1 - t : t;
        state.at[axis] = Math.min(state.scan.shape[axis] - 1, Math.max(0, Math.floor(along * state.scan.shape[axis])));
      };
      share((e.clientX - box.left) / box.width, plane.across, plane.flipAcross);
      share((e.clientY - box.top) / box.height, plane.down, plane.flipDown);
      redraw();
    };
    canvas.addEventListener("pointerdown", (e) => { canvas.focus({ preventScroll: true }); point(e); });
    canvas.addEventListener("pointermove", (e) => { if (e.buttons & 1 && e.pointerType === "mouse") point(e); });
  }
  byId("centre").addEventListener("input", (e) => {
    setWindow(+e.target.value - state.width / 2, +e.target.value + state.width / 2);
  });
  byId("width").addEventListener("input", (e) => {
    setWindow(state.centre - +e.target.value / 2, state.centre + +e.target.value / 2);
  });
  byId("opacity").addEventListener("input", (e) => {
    state.opacity = +e.target.value / 100;
    redraw();
  });
  byId("preset").addEventListener("change", (e) => {
    const [low, high] = e.target.value.split(" ").map(Number);
    setWindow(low, high);
  });
  byId("to-peak").addEventListener("click", () => { state.at = [...state.scan.peak]; redraw(); });
  const mask = byId("mask");
  if (mask) mask.addEventListener("change", (e) => { state.mask = e.target.checked; redraw(); });
  const scans = byId("scans");
  if (scans) scans.addEventListener("change", (e) => openScan(+e.target.value));
  // Such buttons may come later than the viewer.
  document.addEventListener("click", async (e) => {
    const button = e.target.closest("button[data-axis]");
    if (!button || !state.scan) return;
    if (state.index !== +button.dataset.scan) await openScan(+button.dataset.scan);
    moveTo(+button.dataset.axis, nearest(+button.dataset.axis, +button.dataset.place));
    byId("viewer").scrollIntoView({ block: "start" });
    byId("plane-" + button.dataset.plane).focus({ preventScroll: true });
  });
  addEventListener("beforeprint", () => { for (const name of Object.keys(PLANES)) draw(name); });
}

let told;
let textOf;
let listening = false;

async function openScan(index) {
  const shown = told;
  const scan = told.scans[index];
  if (!scan.voxels) {
    const part = async (kind) => {
      const text = textOf(`${kind}-${index}`);
      return text === null ? null : unpack(text);
    };
    scan.heat = await part("heat");
    scan.mask = await part("mask");
    scan.voxels = numbersOf(await part("scan"), scan.shape[0]);
    scan.peak = [0, 1, 2].map((a) => Math.floor(scan.shape[a] / 2));
    if (scan.heat) {
      let best = 0;
      for (let i = 1; i < scan.heat.length; i++) if (scan.heat[i] > scan.heat[best]) best = i;
      const [nx, ny] = scan.shape;
      if (scan.heat[best] > 0) scan.peak = [best % nx, Math.floor(best / nx) % ny, Math.floor(best / (nx * ny))];
    }
  }
  // Another answer was opened meanwhile.
  if (shown !== told) return;
  state.scan = scan;
  state.index = index;
  state.at = [...scan.peak];
  const scans = byId("scans");
  if (scans) scans.value = index;
  byId("to-peak").disabled = !scan.heat;
  byId("preset").replaceChildren(...scan.presets.map(([name, low, high]) => {
    const option = document.createElement("option");
    option.textContent = name;
    option.value = `${low} ${high}`;
    return option;
  }));
  setWindow(scan.presets[0][1], scan.presets[0][2]);
}

// Shows the scans of an answer. `data` says what each is; `text` gives the packed numbers of `scan-N`, `heat-N` and `mask-N`, or
// null.
async function showScans(data, text) {
  if (typeof DecompressionStream === "undefined") {
    throw new Error("this browser is too old to unpack it (it needs DecompressionStream, of 2023 or newer)");
  }
  told = data;
  textOf = text;
  state.scan = null;
  byId("viewer").classList.remove("ready");
  if (!listening) listen();
  listening = true;
  await openScan(0);
  if (data === told) byId("viewer").classList.add("ready");
}
