"""The page of architectures lists what the tests hold."""

from __future__ import annotations

import re
from importlib.metadata import version

import architectures
import pytest
from architectures_page import PAGE
from test_every_architecture import BUILT, REFUSED


@pytest.mark.skipif(
    f"in transformers {version('transformers')}, " not in PAGE.read_text(encoding="utf-8"),
    reason="the page is of another version of transformers, and has that one's types",
)
def test_the_page_sorts_every_type_as_the_tests_do() -> None:
    steered, refused, untried = PAGE.read_text(encoding="utf-8").split("| --- |")[1:]
    names = [re.findall(r"^\| (\S+) \|", part, re.M) for part in (steered, refused, untried)]
    assert [name for name in names[0] if name != "refused"] == [
        name for name in BUILT if name not in REFUSED
    ]
    assert names[1] == sorted(REFUSED)
    assert names[2] == list(architectures.UNBUILDABLE)
