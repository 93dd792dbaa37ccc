"""Opens a page in headless Chromium in both colour schemes, wide and narrow, and fails where it says, fetches or hides something."""

import base64
import json
import sys
import tempfile
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

SIZES = {"wide": (1280, 900), "phone": (390, 844)}


def browser(profile: str) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    flags = ["headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"]
    flags += ["disable-component-update", "disable-sync", "hide-scrollbars", f"user-data-dir={profile}"]
    for flag in flags:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))


def fetched(driver: webdriver.Chrome, address: str) -> set[str]:
    """Everything the page at `address` asked for; the browser's own pages come before it."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    requests = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    urls = [r["request"]["url"] for r in requests if r["documentURL"] == address]
    return {url for url in urls if not url.startswith("data:")}


def top(driver: webdriver.Chrome, sections: int) -> bytes:
    """The picture of the page down to the end of so many sections."""
    bottom = driver.execute_script("return document.getElementById(`section-${arguments[0]}`).getBoundingClientRect().bottom", sections - 1)
    width = SIZES["wide"][0]
    clip = {"x": 0, "y": 0, "width": width, "height": int(bottom) + 16, "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png", "clip": clip})
    return base64.b64decode(shot["data"])


def main(page: Path, screenshots: Path, sections: int) -> None:
    screenshots.mkdir(parents=True, exist_ok=True)
    address = page.resolve().as_uri()
    with tempfile.TemporaryDirectory() as profile:
        driver = browser(profile)
        try:
            for scheme in ("light", "dark"):
                features = [{"name": "prefers-color-scheme", "value": scheme}]
                driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
                for name, (width, height) in SIZES.items():
                    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": name == "phone"}
                    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
                    driver.get(address)
                    overflow = driver.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
                    assert overflow <= 0, f"{scheme}, {name}: {overflow} pixels stick out"
                    paper = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
                    channels = [int(c) for c in paper[paper.index("(") + 1 : paper.index(")")].split(",")[:3]]
                    assert (max(channels) < 64) == (scheme == "dark"), f"{scheme}: the paper is {paper}"
                    drawn = driver.execute_script(
                        "return [...document.querySelectorAll('figure svg, figure img')].map(e => e.getBoundingClientRect().width)"
                    )
                    assert drawn and min(drawn) > 100, f"{name}: figures of {drawn} pixels"
                    if sections and (scheme, name) == ("light", "wide"):
                        (screenshots / "report-top.png").write_bytes(top(driver, sections))
                    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png"})
                    (screenshots / f"report-{scheme}-{name}.png").write_bytes(base64.b64decode(shot["data"]))
            said = [entry for entry in driver.get_log("browser")]
            assert not said, f"the console says {said}"
            urls = fetched(driver, address)
            assert urls == {address}, f"fetched besides the page: {sorted(urls - {address})}"
        finally:
            driver.quit()
    print(f"{page.name}: {2 * len(SIZES)} views, quiet, nothing fetched; pictures in {screenshots}")


main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
