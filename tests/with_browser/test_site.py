"""The documentation site in a browser asks nothing of other machines, and nothing is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Browser, expect

ROOT = Path(__file__).parents[2]


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, and prints nothing."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """Its address, and its pages."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        check=True,
    )
    pages = [page.relative_to(folder).as_posix() for page in sorted(folder.rglob("*.html"))]
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", [p for p in pages if p != "404.html"]
        server.shutdown()


def test_pages_ask_nothing_of_others_and_get_what_they_ask(
    browser: Browser, site: tuple[str, list[str]]
) -> None:
    url, pages = site
    asked: list[str] = []
    failed: list[str] = []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: failed.append(said.text) if said.type == "error" else None)
    page.on("response", lambda got: failed.append(got.url) if got.status >= 400 else None)
    for name in pages:
        page.goto(f"{url}/{name}", wait_until="networkidle")
    page.close()
    assert len(pages) > 40
    assert {one for one in asked if not one.startswith((url, "data:", "blob:"))} == set()
    assert failed == []


def test_search_finds_a_page(browser: Browser, site: tuple[str, list[str]]) -> None:
    page = browser.new_page()
    page.goto(site[0])
    page.get_by_role("textbox", name="Search").fill("deemphasize")
    expect(page.locator(".md-search-result__item").first).to_be_visible()
    page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_scrolls_sideways(
    browser: Browser, site: tuple[str, list[str]], width: int
) -> None:
    url, pages = site
    page = browser.new_page(viewport={"width": width, "height": 900})
    wide = []
    for name in pages:
        page.goto(f"{url}/{name}", wait_until="domcontentloaded")
        if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            wide.append(name)
    page.close()
    assert wide == []
