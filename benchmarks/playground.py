"""How fast the playground is, written to docs/results/playground-speed.md with `--report`.

Drives it in Debian's chromium, as a visitor would.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from machine import processor, versions
from playwright.sync_api import Page, sync_playwright

PROGRAM = Path(sys.executable).with_name("pasta-chains")
PORT = 7893
DEADLINE = 120_000
"""Milliseconds."""

# Resolves with the milliseconds from a key press to the change of what is shown.
_RENDERED = """() => new Promise(done => {
  const shown = document.querySelector('#preview');
  const editor = document.querySelector('#template .cm-content');
  const before = shown.textContent;
  let pressed = 0;
  editor.addEventListener('keydown', () => { pressed = performance.now(); }, { once: true });
  new MutationObserver((_, watch) => {
    if (shown.textContent === before) return;
    watch.disconnect();
    done(performance.now() - pressed);
  }).observe(shown, { childList: true, subtree: true, characterData: true });
})"""


@contextmanager
def playground() -> Iterator[str]:
    """A playground with the embedded model, until the block ends."""
    with subprocess.Popen([PROGRAM, "playground", "--port", str(PORT)]) as process:
        try:
            yield f"http://127.0.0.1:{PORT}"
        finally:
            process.terminate()


def visit(page: Page, url: str) -> None:
    """Open the page as soon as it is there."""
    end = time.monotonic() + DEADLINE / 1000
    while time.monotonic() < end:
        try:
            page.goto(url)
        except Exception:  # it is still starting
            time.sleep(0.1)
            continue
        page.wait_for_selector("#ask", timeout=DEADLINE)
        return
    raise RuntimeError("The playground did not start.")


def first_answer(page: Page, url: str) -> None:
    """Ask until the model is loaded, and wait for both answers."""
    visit(page, url)
    pictures = page.locator("#details svg")
    while pictures.count() < 2:  # the model may still be loading
        page.click("#ask")
        end = time.monotonic() + 3
        while pictures.count() < 2 and time.monotonic() < end:
            page.wait_for_timeout(50)


def keys(page: Page, count: int) -> list[float]:
    """Milliseconds from a key press in the template to the new prompt, for several."""
    editor = page.locator("#template .cm-content")
    editor.fill("Who is the keeper? <% emphasize %>{{ question }}<% endemphasize %> ")
    page.wait_for_timeout(1000)
    taken = []
    for _ in range(count):
        page.evaluate(f"() => {{ window.rendered = ({_RENDERED})(); }}")
        editor.press("x")
        taken.append(float(page.evaluate("() => window.rendered")))
        page.wait_for_timeout(200)
    return taken


def main(
    starts: Annotated[int, typer.Option(help="How often it is started.")] = 3,
    count: Annotated[int, typer.Option(help="Key presses.")] = 30,
    report: Annotated[Path | None, typer.Option(help="Write the page as Markdown.")] = None,
) -> None:
    """Measure, and print."""
    found, seconds, pressed = shutil.which("chromium"), [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for _ in range(starts):
            page = browser.new_page()
            began = time.perf_counter()
            with playground() as url:
                first_answer(page, url)
                seconds.append(time.perf_counter() - began)
                pressed += keys(page, count)
            page.close()
    pressed.sort()
    table = [
        "| | median | slowest |",
        "| --- | ---: | ---: |",
        f"| from `pasta-chains playground` to both answers | {statistics.median(seconds):.1f} s "
        f"| {max(seconds):.1f} s |",
        "| from a key press in the template to the new prompt | "
        f"{statistics.median(pressed):.0f} ms | {pressed[-1]:.0f} ms |",
    ]
    typer.echo("\n".join(table))
    if report:
        about = (
            f"{starts} starts and {len(pressed)} key presses, in a browser on the same machine, by "
            "`python benchmarks/playground.py --report docs/results/playground-speed.md`: "
            f"{versions('pasta-chains', 'gradio', 'torch', 'transformers')}; {processor()}."
        )
        text = ["# How fast the playground is", "", *table, "", about, ""]
        report.write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
