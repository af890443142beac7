"""Headless Chromium on the page of `host serve`: pages that note what goes wrong, pictures, axe-core, a heatmap read without the host."""

import gzip
import io
import pathlib
import struct

import axe_playwright_python
from PIL import Image
from playwright.sync_api import expect

AXE = next(pathlib.Path(axe_playwright_python.__file__).parent.rglob("axe.min.js")).read_text()
DESKTOP = {"viewport": {"width": 1440, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}


class Browser:
    """Pages that note every message of the console and every request to another origin."""

    def __init__(self, browser, server, shots):
        self.browser, self.server, self.shots = browser, server, shots
        self.faults = []

    def page(self, path="/", expected=(), **options):
        page = self.browser.new_context(locale="en-GB", **options).new_page()
        origin = f"http://127.0.0.1:{self.server.port}"

        def said(message):
            # Chromium tells of each answer above 399; a test names those that it means to get.
            if message.type in ("error", "warning") and not any(part in message.text for part in expected):
                self.faults.append(f"console: {message.text}")

        page.on("console", said)
        page.on("pageerror", lambda e: self.faults.append(f"script: {e}"))
        page.on("request", lambda r: None if r.url.startswith((origin, "blob:" + origin)) else self.faults.append(f"request: {r.url}"))
        page.on("dialog", lambda d: d.accept())
        page.goto(origin + path)
        return page

    def shot(self, page, name, full=True):
        if self.shots:
            self.shots.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=self.shots / f"{name}.png", full_page=full)


def axe(page, where):
    """Serious and critical faults of the page as it stands."""
    page.evaluate(AXE + "; undefined")
    told = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    assert len(told["passes"]) > 15, f"axe-core, {where}: it looked at {len(told['passes'])} rules"
    found = told["violations"]
    bad = [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found if v["impact"] in ("serious", "critical")]
    assert not bad, f"axe-core, {where}: {bad}"
    return len(found)


def picture(page, plane):
    return Image.open(io.BytesIO(page.locator(f"#plane-{plane}").screenshot())).convert("RGB")


def set_range(page, name, value):
    page.locator(f"#{name}").evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input', { bubbles: true })); }", str(value))
    page.wait_for_timeout(120)


def answered(page):
    expect(page.locator("#viewer.ready")).to_be_visible(timeout=60_000)
    expect(page.locator("#picture img")).to_be_visible(timeout=30_000)


class Heatmap:
    """The strongest voxel of heatmap.nii.gz and the ends of its grid in RAS mm, read without the host."""

    def __init__(self, raw):
        raw = gzip.decompress(raw)
        shape = struct.unpack_from("<3h", raw, 42)
        rows = [struct.unpack_from("<4f", raw, 280 + 16 * i) for i in range(3)]
        kind, offset = {4: "h", 512: "H"}[struct.unpack_from("<h", raw, 70)[0]], int(struct.unpack_from("<f", raw, 108)[0])
        values = struct.unpack_from(f"<{shape[0] * shape[1] * shape[2]}{kind}", raw, offset)
        best = max(range(len(values)), key=values.__getitem__)
        at = best % shape[0], best // shape[0] % shape[1], best // (shape[0] * shape[1])
        self.peak = [sum(row[v] * at[v] for v in range(3)) + row[3] for row in rows]
        # Its axes are those of the body in some order, each of them up or down.
        along = [max(range(3), key=lambda v, row=row: abs(row[v])) for row in rows]
        self.size = [abs(row[v]) for row, v in zip(rows, along)]
        self.ends = [sorted(row[3] + row[v] * i for i in (-0.5, shape[v] - 0.5)) for row, v in zip(rows, along)]

    def place(self, axis):
        """Of the peak, 0 to 1 from the left or the top of a picture."""
        low, high = self.ends[axis]
        return 1 - (self.peak[axis] - low) / (high - low)
