"""The page of `host serve` as a person uses it, in headless Chromium without a network besides loopback.

    python page.py HOST BENCH BACKBONE [--shots FOLDER]

Chromium is $CHROMIUM. Exit 1 on a message of the console, a request to elsewhere, a serious fault that axe-core finds, an
answer that is not `host run`'s, or a picture that is not where the heatmap is.
"""

import argparse
import gzip
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse

from PIL import ImageChops, ImageFilter
from playwright.sync_api import expect, sync_playwright

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(ROOT / ".ci"))
from marked_exam import MARKED, marked_exam  # noqa: E402
from page_browser import DESKTOP, PHONE, Browser, Heatmap, answered, axe, picture, set_range  # noqa: E402
from server import Server, answers_of_run, nifti  # noqa: E402

SCAN = ROOT / "examples/scans/chest_phantom.nii.gz"


def heat_on_the_scan(page, server, files):
    """With the heat the pictures differ, most where the heatmap file has its peak."""
    heatmap = Heatmap(server.ask("GET", next(f for f in files if f.endswith("heatmap.nii.gz")))[2])
    page.locator("#to-peak").click()
    page.wait_for_timeout(150)
    shown = [float(v) for v in re.match(r"R (\S+), A (\S+), S (\S+) mm", page.locator("#readout").inner_text()).groups()]
    off = max(abs(s - p) / size for s, p, size in zip(shown, heatmap.peak, heatmap.size))
    assert off <= 1.0, f"the viewer's strongest heat {shown} is not the file's {heatmap.peak}"
    told = []
    for plane, across, down in (("axial", 0, 1), ("coronal", 0, 2), ("sagittal", 1, 2)):
        set_range(page, "opacity", 0)
        without = picture(page, plane)
        set_range(page, "opacity", 100)
        difference = ImageChops.difference(without, picture(page, plane)).convert("L").filter(ImageFilter.GaussianBlur(4))
        share = difference.point(lambda v: 255 if v > 12 else 0).histogram()[255] / (difference.width * difference.height)
        assert share > 0.002, f"{plane}: the heat changes {share:.2%} of the picture"
        # The centre of what differs most.
        top = difference.getextrema()[1]
        strong = [i for i, v in enumerate(difference.tobytes()) if v >= 0.8 * top]
        x = sum(i % difference.width for i in strong) / len(strong) / difference.width
        y = sum(i // difference.width for i in strong) / len(strong) / difference.height
        distance = max(abs(x - heatmap.place(across)), abs(y - heatmap.place(down)))
        assert distance < 0.05, f"{plane}: the heat is at {x:.2f}, {y:.2f}, its peak at {heatmap.place(across):.2f}, {heatmap.place(down):.2f}"
        told.append(f"{plane} {share:.1%} of pixels differ, their centre {100 * distance:.1f} % of the picture from the file's peak")
    set_range(page, "opacity", 72)
    return "; ".join(told)


def keys_and_slices(page):
    """The slider and the pictures by keyboard, and a slice of the table."""
    slider = page.locator("#slice-axial")
    slider.focus()
    before, first = int(slider.input_value()), picture(page, "axial")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(150)
    assert int(slider.input_value()) == before + 2, "arrow keys on the slider"
    assert ImageChops.difference(first, picture(page, "axial")).getbbox(), "another slice is the same picture"
    opacity = page.locator("#opacity")
    opacity.focus()
    page.keyboard.press("End")
    page.wait_for_timeout(150)
    assert opacity.input_value() == "100", "the End key on the slider of the heat"
    set_range(page, "opacity", 72)
    button = page.locator("button[data-axis]").nth(1)
    button.focus()
    page.keyboard.press("Enter")
    page.wait_for_timeout(250)
    place = float(button.get_attribute("data-place"))
    shown = float(page.locator("#place-axial").inner_text().split()[1])
    assert abs(place - shown) < 5, (place, shown)
    assert page.evaluate("document.activeElement.id") == "plane-axial", "the focus goes to the picture"
    return f"slice at {place:.1f} mm shows {shown:.1f}"


def scan_through_the_page(browser, wanted):
    """Chooses the scan, sends it, reads the answer."""
    page = browser.page(**DESKTOP)
    expect(page.locator(".card").first).to_be_visible()
    browser.shot(page, "start")
    axe(page, "start")
    page.locator("#files").set_input_files(SCAN)
    expect(page.locator("#chosen")).to_contain_text("chest_phantom.nii.gz")
    assert page.evaluate("document.activeElement.id") == "send", "the focus goes to the button"
    page.keyboard.press("Enter")
    expect(page.locator("#job")).to_be_visible()
    answered(page)
    job = page.evaluate("location.hash").removeprefix("#job=")
    record = browser.server.json("GET", f"/jobs/{job}")[1]
    assert record["state"] == "done", record
    result = json.loads(browser.server.ask("GET", record["results"][0]["files"][0])[2])
    said = [p["probability"] for p in result["predictions"]]
    assert said == wanted, f"the page's job says {said}, host run {wanted}"
    shown = page.locator("#answer .figure").first.inner_text()
    assert shown == f"{100 * wanted[0]:.1f} %" or shown[0] in "<>", (shown, wanted)
    for text in (result["plugin"]["weights_sha256"], result["input"]["sha256"], result["backbone"]["sha256"]):
        assert page.locator("#answer-rest .digest", has_text=text).count(), "a digest is missing"
    threshold = result["predictions"][0]["threshold"]
    expect(page.locator("#answer")).to_contain_text(f"threshold of {100 * threshold:.1f} %")
    expect(page.locator("#answer")).to_contain_text(f"temperature {result['predictions'][0]['temperature']:.3f}")
    return page, record, shown


def segmentation(page):
    """The mask's colour goes with its box."""
    page.locator("#to-peak").click()
    page.wait_for_timeout(150)
    before = picture(page, "axial")
    page.locator("#mask").uncheck()
    page.wait_for_timeout(150)
    assert ImageChops.difference(before, picture(page, "axial")).getbbox(), "the mask's box changes nothing"
    page.locator("#mask").check()
    return page.locator("#answer p", has_text="Segmented").inner_text()


def downloads(page, record):
    with page.expect_download() as got:
        page.locator(".files a", has_text="Heatmap (NIfTI)").click()
    name = got.value.suggested_filename
    assert name.endswith("lung_nodule-heatmap.nii.gz") and gzip.decompress(pathlib.Path(got.value.path()).read_bytes()), name
    assert page.locator(".files li").count() == len(record["results"][0]["files"])
    return name


def views(browser, job):
    """Screenshots and axe-core: desktop, dark, phone, keyboard focus."""
    told = []
    for name, options in (("desktop", DESKTOP), ("dark", {**DESKTOP, "color_scheme": "dark"}), ("phone", PHONE)):
        page = browser.page(f"/#job={job}", **options)
        answered(page)
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{name}: {wide} pixels wider than the window"
        page.locator("details").evaluate_all("all => all.forEach((d) => { d.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, f"{name}: with all details open"
        told.append(f"{name} {axe(page, name)}")
        page.locator("details").evaluate_all("all => all.forEach((d) => { d.open = false; })")
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(200)
        browser.shot(page, name)
        if name == "desktop":
            page.evaluate("document.body.focus()")
            reached = set()
            for _ in range(60):
                page.keyboard.press("Tab")
                reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent.slice(0, 40)"))
                outline = page.evaluate("(() => { const e = document.activeElement, s = (n) => getComputedStyle(n); const at = e.closest('label.choice') ?? e;"
                                        "return e === document.body || s(at).outlineStyle !== 'none' || s(e).outlineStyle !== 'none'; })()")
                assert outline, f"no focus is shown at {page.evaluate('document.activeElement.outerHTML')}"
            assert {"choose-files", "choose-folder", "plane-axial", "slice-coronal", "opacity", "preset", "to-peak"} <= reached, reached
            page.locator("#opacity").focus()
            page.keyboard.press("Tab")
            page.keyboard.press("Shift+Tab")
            browser.shot(page, "focus", full=False)
            page.evaluate("scrollTo(0, 0)")
            page.locator(".skip").focus()
            browser.shot(page, "focus-skip", full=False)
        page.context.close()
    return ", ".join(told)


def several(browser):
    """Two plugins, one of them at a point; answers of other tasks; the list of jobs; a job that is deleted."""
    def of_another_task(route):
        told = route.fetch()
        result = told.json()
        result["values"] = [{"label": "sphericity", "value": 3.84, "level": 4.0, "range": [1.0, 5.0]},
                            {"label": "diameter", "value": 12.25, "range": [0.0, 40.0]}]
        result["novelty"] = {"distance": 51.3, "percentile": 99.9, "outside": True, "reference_cases": 300}
        result["warnings"] = ["slices are 5.0 mm apart; the plugin was trained on 2.5 mm"]
        result["predictions"][0]["spread"] = {"members": 5, "logit_std": 0.4, "probability": [0.912, 0.999]}
        route.fulfill(response=told, json=result)

    def without_reference(route):
        told = route.fetch()
        route.fulfill(response=told, json={name: value for name, value in told.json().items() if name != "novelty"})

    page = browser.page(expected=["400"], **DESKTOP)
    page.route("**/lung_nodule/result.json", of_another_task)
    page.route("**/nodule_prompt/result.json", without_reference)
    page.locator("#asked input[value=nodule_prompt]").check()
    page.locator("#files").set_input_files(SCAN)
    page.locator("#send").click()
    expect(page.locator("#send-fault")).to_contain_text("nodule_prompt looks at a finding: give a point or a mask")
    page.locator("#point").fill("here")
    page.locator("#send").click()
    expect(page.locator("#send-fault")).to_contain_text("expected x,y,z")
    page.locator("#point").fill("40, -10, -100")
    page.locator("#send").click()
    answered(page)
    expect(page.locator("#answers button")).to_have_count(2)
    expect(page.locator("#answer .figure").first).to_have_text("level 4")
    expect(page.locator("#answer")).to_contain_text("unlike the reference cases")
    expect(page.locator("#answer .warn")).to_contain_text("5.0 mm apart")
    axe(page, "another task")
    browser.shot(page, "another-task")
    page.locator("#answers button", has_text="nodule_prompt").click()
    answered(page)
    expect(page.locator("#answer-rest")).to_contain_text("40, -10, -100 mm")
    expect(page.locator("#answer")).not_to_contain_text("reference cases")
    jobs = page.locator("#job-list li")
    before = jobs.count()
    jobs.first.get_by_role("button", name="Delete").click()
    expect(jobs).to_have_count(before - 1)
    expect(page.locator("#job")).to_be_hidden()
    page.context.close()


def markup_is_text(browser, folder):
    """A folder and a zip of DICOM with markup in them, and a server whose every text is markup."""
    packed = marked_exam(folder)
    for field, what in (("#folder", folder), ("#files", packed)):
        page = browser.page(**DESKTOP)
        page.locator(field).set_input_files(what)
        if field == "#folder":
            expect(page.locator("#chosen")).to_contain_text("1 that are no DICOM are left out")
        page.locator("#send").click()
        answered(page)
        assert page.evaluate("window.hit === undefined && document.querySelectorAll('img[src=x]').length === 0")
        assert "Doe" not in page.content()
        expect(page.locator(".files")).to_contain_text("Report (DICOM SR)")
        job = page.evaluate("location.hash")
        page.context.close()

    def poisoned(value):
        keep = ("id", "state", "files", "events", "created", "started", "ended", "schema", "sha256")
        if isinstance(value, dict):
            return {k: v if k in keep else poisoned(v) for k, v in value.items()}
        if isinstance(value, list):
            return [poisoned(v) for v in value]
        return MARKED if isinstance(value, str) else value

    def tells(url):
        path = urllib.parse.urlsplit(url).path
        return path.startswith("/v2") or path.startswith("/jobs") and not path.endswith((".png", ".html", "/events"))

    def answer(route):
        told = route.fetch()
        body = told.json()
        if "state" in body and "notices" in body:
            body["notices"] = [MARKED]
            body["failures"] = [{"plugin": MARKED, "case": MARKED, "blame": MARKED, "message": MARKED}]
        names = [entry["name"] for entry in body] if isinstance(body, list) else []
        body = poisoned(body)
        # The next request is for a model of this name.
        for entry, name in zip(body if names else [], names):
            entry["name"] = name
        route.fulfill(response=told, json=body)

    page = browser.page("/monitor", expected=["404", "TrustedHTML"], **DESKTOP)
    page.route(tells, answer)
    page.goto(f"http://127.0.0.1:{browser.server.port}/{job}")
    answered(page)
    shown = page.get_by_text(MARKED).count()
    assert shown >= 10, f"the markup is shown as text {shown} times"
    assert page.evaluate("window.hit === undefined && document.querySelectorAll('img[src=x]').length === 0")
    # What scripts cannot do here, should one of them ever try.
    refused = page.evaluate("(() => { try { document.body.insertAdjacentHTML('beforeend', '<b>x</b>'); return false; } catch (e) { return e instanceof TypeError; } })()")
    assert refused, "markup of text is not refused by the policy"
    page.context.close()
    return shown


def tokens(p, host, bench, backbone, folder, shots):
    """A server that asks for a token: none, a wrong one, the right one, and a plugin in quarantine."""
    file = folder / "tokens.toml"
    add = [host, "serve", "token", "add", "person", "--scope", "read,infer,admin", "--tokens", file]
    token = subprocess.run(add, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout.strip()
    plugins = sorted(pathlib.Path(bench).glob("*.so"))
    server = Server(host, ["--backbone", backbone, "--tokens", file, "--quarantine-after", 1,
                           *(part for plugin in plugins for part in ("--plugin", plugin))], folder / "data-tokens")
    browser = Browser(p, server, shots)
    page = browser.page(expected=["401"], **DESKTOP)
    expect(page.locator("#token")).to_be_visible()
    expect(page.locator("#columns")).to_be_hidden()
    axe(page, "token")
    browser.shot(page, "token", full=False)
    page.locator("#token-field").fill("anymc3d_wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#token-fault")).to_contain_text("does not know this token")
    page.locator("#token-field").fill(token)
    page.keyboard.press("Enter")
    expect(page.locator("#columns")).to_be_visible()
    # At this scan the second plugin ends its process.
    scan = folder / "far.nii"
    scan.write_bytes(nifti(1, 5000.0)[0])
    page.locator("#files").set_input_files(scan)
    page.locator("#send").click()
    answered(page)
    expect(page.locator("#job-state")).to_have_text("partly failed")
    expect(page.locator("#job-said")).to_contain_text("Failures")
    with page.expect_download() as got:
        page.locator(".files a", has_text="Record (JSON)").click()
    assert json.loads(pathlib.Path(got.value.path()).read_text())["predictions"]
    assert page.evaluate("[localStorage.length, document.cookie, sessionStorage.length]") == [0, "", 1]
    page.reload()
    expect(page.locator(".card .state.bad")).to_have_text("quarantined")
    answered(page)
    axe(page, "quarantine")
    browser.shot(page, "quarantine")
    assert server.ask("GET", "/jobs")[0] == 401 and all(server.ask("GET", f"/{name}")[0] == 200 for name in ("", "monitor", "page/main.js"))
    page.locator("#forget-token").click()
    expect(page.locator("#token")).to_be_visible()
    assert not browser.faults, browser.faults
    assert server.stop() == 0
    assert not any(token in line for line in server.log)


def monitor(browser):
    """The chart, of numbers as `/monitor.json` tells them."""
    results = [{"time": f"2026-11-{1 + i // 4:02}T{6 * (i % 4):02}:00:00Z", "job": f"{i:032x}", "case": f"case {i}",
                "distance": 20 + (i * 7919 % 13) + (i / 4 if i > 60 else 0), "percentile": 50.0, "outside": i > 95} for i in range(110)]
    told = {"plugins": [{"name": "lung_nodule", "reference": {"cases": 300, "percentile_99_5": 41.2}, "results": results[::-1]},
                        {"name": "other", "reference": None, "results": []}]}
    for name, options in (("monitor", DESKTOP), ("monitor-dark", {**DESKTOP, "color_scheme": "dark"}), ("monitor-phone", PHONE)):
        page = browser.page("/page/icon.svg", expected=["404"], **options)
        page.route("**/monitor.json*", lambda route: route.fulfill(json=told))
        page.goto(f"http://127.0.0.1:{browser.server.port}/monitor")
        expect(page.locator("svg.chart[role=img]")).to_be_visible()
        assert page.locator("svg.chart[role=img] circle.outside").count() == 14
        assert page.locator("svg.chart .limit").count() >= 1
        heights = page.locator("svg.chart[role=img] circle").evaluate_all("all => all.map((c) => [+c.getAttribute('cx'), +c.getAttribute('cy')])")
        assert [x for x, _ in heights] == sorted(x for x, _ in heights) and heights[-1][1] < heights[0][1], "time runs to the right, distance up"
        page.locator("summary").first.click()
        assert page.locator("tbody tr").count() == 110
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
        axe(page, name)
        page.locator("summary").first.click()
        browser.shot(page, name)
        page.context.close()
    # As this server tells it.
    page = browser.page("/monitor", expected=["404"], **DESKTOP)
    expect(page.locator("#state:not(:empty), #page-fault:not([hidden])").first).to_be_visible()
    page.context.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("bench")
    parser.add_argument("backbone")
    parser.add_argument("--shots", type=pathlib.Path)
    arguments = parser.parse_args()
    host = os.path.abspath(arguments.host)
    shots = arguments.shots and arguments.shots.resolve()
    bench, backbone = os.path.abspath(arguments.bench), os.path.abspath(arguments.backbone)
    os.chdir(ROOT)
    began = time.monotonic()
    names = ["lung_nodule", "nodule_prompt"]
    plugins = [part for name in names for part in ("--plugin", f"target/release/lib{name}.so")]
    wanted = next(iter(answers_of_run(host, plugins[:2], [SCAN]).values()))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        folder = pathlib.Path(folder)
        # Names are resolved nowhere: what is no address of loopback cannot be reached.
        chromium = p.chromium.launch(executable_path=os.environ["CHROMIUM"],
                                     args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"])
        server = Server(host, [*plugins, "--segmentation"], folder / "data")
        browser = Browser(chromium, server, shots)
        page, record, shown = scan_through_the_page(browser, wanted)
        print(f"a scan through the page: {shown}, as host run says it ({wanted[0]:.6f})")
        print(f"the heat: {heat_on_the_scan(page, server, record['results'][0]['files'])}")
        print(f"by keyboard: {keys_and_slices(page)}; download: {downloads(page, record)}")
        print(segmentation(page))
        page.context.close()
        print(f"axe-core, minor faults at each (no serious one): {views(browser, record['id'])}")
        several(browser)
        print("two plugins, one at a point; an ordinal answer, a value, an unusual scan; a job deleted")
        print(f"markup in DICOM and in every text of the server is text: shown {markup_is_text(browser, folder / 'exam')} times, run 0 times")
        monitor(browser)
        print("the monitor's chart")
        tokens(chromium, host, bench, backbone, folder, shots)
        print("tokens: none and a wrong one refused, the right one works; a quarantined plugin is shown")
        assert not browser.faults, browser.faults
        assert server.stop() == 0
        chromium.close()
    print(f"no message of the console, no request to elsewhere; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
