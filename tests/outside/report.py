# /// script
# dependencies = ["playwright==1.56.0", "pillow==12.0.0"]
# ///
"""Opens reports in headless Chromium, network off, and proves by pixels that slider, window and heat work.

    host run --plugin lung_nodule scan.nii.gz --out results --report
    python tests/outside/report.py results/*/*/report.html --shots FOLDER

Chromium is `chromium` of the system, or $CHROMIUM. Screenshots (desktop, phone, dark, print) go to FOLDER for people to look
at. Exit 1 on an error of the console, a request, a picture that does not change, or a page above 6 MB beside the scan.
"""

import argparse
import io
import os
import pathlib
import re
import shutil

from PIL import Image, ImageChops
from playwright.sync_api import sync_playwright

MOST_BESIDE_THE_SCAN = 6 << 20


def picture(page, plane):
    return Image.open(io.BytesIO(page.locator(f"#plane-{plane}").screenshot())).convert("RGB")


def changed(before, after):
    """Share of pixels that differ visibly."""
    difference = ImageChops.difference(before, after).convert("L").point(lambda v: 255 if v > 12 else 0)
    return difference.histogram()[255] / (before.width * before.height)


def set_range(page, name, value):
    page.locator(f"#{name}").evaluate(
        "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', { bubbles: true })); }", str(value)
    )
    page.wait_for_timeout(150)


def colourful(image):
    """Share of pixels that are not grey: the heat."""
    red, green, blue = image.split()
    colour = ImageChops.difference(red, blue).point(lambda v: 255 if v > 25 else 0)
    return colour.histogram()[255] / (image.width * image.height)


def check(page, path):
    told = []
    for plane in ("axial", "coronal", "sagittal"):
        first = picture(page, plane)
        most = int(page.locator(f"#slice-{plane}").get_attribute("max"))
        here = int(page.locator(f"#slice-{plane}").input_value())
        set_range(page, f"slice-{plane}", most // 4 if here > most // 2 else most * 3 // 4)
        moved = changed(first, picture(page, plane))
        assert moved > 0.01, f"{plane}: the slider changes {moved:.2%} of the picture"
        set_range(page, f"slice-{plane}", here)
        assert changed(first, picture(page, plane)) == 0, f"{plane}: back is not the same picture"
        page.locator(f"#plane-{plane}").focus()
        page.keyboard.press("ArrowUp" if here < most else "ArrowDown")
        page.wait_for_timeout(150)
        assert int(page.locator(f"#slice-{plane}").input_value()) != here, f"{plane}: keys do not scroll"
        set_range(page, f"slice-{plane}", here)
        told.append(f"{plane} slider {moved:.0%}")
    mask = page.locator("#mask")
    if mask.count():
        # Its colour would be counted as heat.
        before = picture(page, "axial")
        mask.uncheck()
        page.wait_for_timeout(150)
        told.append(f"mask {changed(before, picture(page, 'axial')):.1%} of pixels")
    with_heat = picture(page, "axial")
    set_range(page, "opacity", 0)
    without = picture(page, "axial")
    set_range(page, "opacity", 72)
    assert colourful(with_heat) > colourful(without) + 0.002, (colourful(with_heat), colourful(without))
    told.append(f"heat {colourful(with_heat):.1%} against {colourful(without):.1%} of coloured pixels")
    options = page.locator("#preset option").count()
    page.locator("#preset").select_option(index=options - 1)
    page.wait_for_timeout(150)
    # The axial plane of a scan of one window only is the same in all of them.
    told.append(f"window {changed(with_heat, picture(page, 'axial')):.0%} of pixels")
    page.locator("#preset").select_option(index=0)
    label = page.locator("#plane-axial").get_attribute("aria-label")
    assert re.search(r"axial plane at S [+-][\d.]+ mm, window", label), label
    button = page.locator("button[data-axis]").first
    if button.count():
        button.click()
        page.wait_for_timeout(200)
        place = float(button.get_attribute("data-place"))
        shown = float(page.locator(f"#place-{button.get_attribute('data-plane')}").inner_text().split()[1])
        assert abs(place - shown) <= 5.0, (place, shown)
        told.append(f"button to {place:.1f} mm shows {shown:.1f}")
    return "; ".join(told)


def beside_the_scan(path):
    text = path.read_text()
    data = sum(len(m) for m in re.findall(r'<script type="text/plain"[^>]*>([^<]*)</script>', text))
    return len(text.encode()) - data


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("reports", nargs="+", type=pathlib.Path)
    parser.add_argument("--shots", type=pathlib.Path)
    arguments = parser.parse_args()
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for path in arguments.reports:
            url = path.resolve().as_uri()
            faults = []
            for name, options in {
                "desktop": {"viewport": {"width": 1280, "height": 900}},
                "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
                "phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True},
            }.items():
                context = browser.new_context(offline=True, **options)
                page = context.new_page()
                page.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
                page.on("pageerror", lambda e: faults.append(str(e)))
                page.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else faults.append(r.url))
                page.goto(url)
                page.wait_for_selector("#viewer.ready", timeout=60_000)
                page.wait_for_timeout(300)
                wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert wide <= 0, f"{name}: the page is {wide} pixels wider than the window"
                if arguments.shots:
                    arguments.shots.mkdir(parents=True, exist_ok=True)
                    page.screenshot(path=arguments.shots / f"{path.parent.name}-{name}.png", full_page=True)
                if name == "desktop":
                    told = check(page, path)
                    if arguments.shots:
                        page.emulate_media(media="print")
                        page.screenshot(path=arguments.shots / f"{path.parent.name}-print.png", full_page=True)
                        page.pdf(path=arguments.shots / f"{path.parent.name}.pdf", format="A4")
                context.close()
            assert not faults, faults
            size = beside_the_scan(path)
            assert size <= MOST_BESIDE_THE_SCAN, size
            print(f"{path.parent.name}: {told}; no console message, no request; {size >> 10} kB beside the scan, "
                  f"{path.stat().st_size >> 10} kB in all")
        browser.close()


if __name__ == "__main__":
    main()
