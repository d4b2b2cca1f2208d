"""The documentation site is built without a warning, and every link in it leads somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parent.parent
# What a browser fetches by itself.
FETCHED = {*((tag, "src") for tag in ("script", "img", "source", "iframe")), ("link", "href")}
PUBLIC = [
    "pasta_chains",
    *(f"pasta_chains.{part}" for part in ("langchain", "llama_index", "report")),
]


class Links(HTMLParser):
    """What a page links to, what it fetches, and the places in it that have a name."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.names: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for attribute, value in attrs:
            if attribute == "id" and value:
                self.names.add(value)
            if attribute in ("href", "src") and value is not None:
                fetched = (tag, attribute) in FETCHED and ("rel", "canonical") not in attrs
                (self.fetched if fetched else self.links).append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Links]:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert not re.findall(r"^(?!INFO ).+", built.stdout + built.stderr, re.MULTILINE)
    return {page: Links(page) for page in folder.rglob("*.html")}


def test_links_lead_to_a_file_and_to_a_place_in_it(site: dict[Path, Links]) -> None:
    dead = []
    for page, found in site.items():
        for link in [*found.links, *found.fetched]:
            parts = urlsplit(link)
            if parts.scheme or page.name == "404.html":  # which has addresses of the root
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            names = site[target].names if target in site else set()
            if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in names):
                dead.append(f"{page.name}: {link}")
    assert len(site) > 40
    assert dead == []


def test_nothing_is_fetched_from_elsewhere(site: dict[Path, Links]) -> None:
    fetched = {link for found in site.values() for link in found.fetched}
    assert fetched
    assert {link for link in fetched if urlsplit(link).netloc} == set()


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_has_its_place_in_the_reference(
    site: dict[Path, Links], module: str
) -> None:
    told = {name for found in site.values() for name in found.names}
    assert {f"{module}.{name}" for name in import_module(module).__all__} - told == set()
