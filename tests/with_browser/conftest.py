"""A playground in a process of its own, and a browser that drives it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fake_server import fake_server
from playwright.sync_api import Browser, Page, sync_playwright

from pasta_chains import SteeredModel
from pasta_chains.demo import MODEL

DEADLINE = 120
"""Seconds; generous, as other tests may run at the same time."""


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    results = tmp_path_factory.mktemp("results")
    (results / "results.md").write_text("| task | share |\n| --- | --- |\n| rules | 12% |\n")
    with _playground(results.parent / "local.log", "--results", str(results)) as found:
        yield found


@pytest.fixture(scope="session")
def served_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A playground that asks a server; a stand-in for vLLM, with the embedded model."""
    log = tmp_path_factory.mktemp("served") / "served.log"
    with (
        fake_server(SteeredModel.from_pretrained(MODEL)) as server,
        _playground(log, "--base-url", server.url) as found,
    ):
        yield found


@contextmanager
def _playground(log_file: Path, *options: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(Path(sys.executable).with_name("pasta-chains")),
        "playground",
        "--port",
        str(port),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with (
        log_file.open("w+") as log,
        subprocess.Popen([*command, *options], stdout=log, stderr=log, env=environment) as process,
    ):
        try:
            _wait(f"http://127.0.0.1:{port}", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise RuntimeError("The playground did not start.")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium")
    assert found, "These tests drive Debian's chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[Callable[[], Page]]:
    """Opens the page as a new visitor, who asks nothing of any other machine."""
    asked: list[str] = []
    contexts = []

    def open_page() -> Page:
        context = browser.new_context(viewport={"width": 1280, "height": 1100})
        contexts.append(context)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.set_default_timeout(DEADLINE * 1000)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        page.wait_for_selector("#ask")
        page.wait_for_load_state("networkidle")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [one for one in asked if not one.startswith((url, "data:", "blob:"))] == []


@pytest.fixture
def page(visit: Callable[[], Page]) -> Page:
    return visit()
