"""Takes the pictures of the playground and of a report for the docs: `make screenshots`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Literal

from playwright.sync_api import Page, expect, sync_playwright

from pasta_chains.playground.editing import SHIPPED, example

ROOT = Path(__file__).parent.parent.parent
FIGURES = ROOT / "docs" / "figures"
PROGRAM = Path(sys.executable).with_name("pasta-chains")
WAYS: dict[str, tuple[int, int, Literal["light", "dark"]]] = {
    "desktop": (1280, 900, "light"),
    "desktop-dark": (1280, 900, "dark"),
    "phone": (400, 800, "light"),
    "phone-dark": (400, 800, "dark"),
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        variables, report = Path(folder) / "variables.yaml", Path(folder) / "report.html"
        variables.write_text(example(SHIPPED), encoding="utf-8")
        given = ["inspect", SHIPPED, "--vars", str(variables), "--chat", "--out", str(report)]
        subprocess.run([PROGRAM, *given], check=True)
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        with subprocess.Popen([PROGRAM, "playground", "--port", "7899"]) as process:
            try:
                for name, (width, height, scheme) in WAYS.items():
                    new_page = partial(
                        browser.new_page,
                        viewport={"width": width, "height": height},
                        color_scheme=scheme,
                    )
                    page = opened(new_page(), report.as_uri())
                    page.screenshot(path=FIGURES / f"report-{name}.png", full_page=True)
                    page = opened(new_page(), "http://127.0.0.1:7899")
                    page.click("#ask")
                    expect(page.locator("#details svg")).to_have_count(2, timeout=60_000)
                    page.wait_for_timeout(1000)
                    page.screenshot(path=FIGURES / f"playground-{name}.png", full_page=True)
            finally:
                process.terminate()


def opened(page: Page, url: str) -> Page:
    for _ in range(60):
        try:
            page.goto(url)
        except Exception:  # the playground is still starting
            page.wait_for_timeout(1000)
            continue
        page.wait_for_load_state("networkidle")
        return page
    raise RuntimeError(f"{url} did not start")


if __name__ == "__main__":
    main()
